"""Other ways to do the same work, as their own documentation advises, without our guarantees."""
