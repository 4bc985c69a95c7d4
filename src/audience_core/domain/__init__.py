"""The rules, in the standard library alone: no I/O, no clock of its own."""
