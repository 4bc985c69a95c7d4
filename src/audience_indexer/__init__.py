"""Sums the shards' counts into one count per audience, and keeps the listing of populated audiences."""
