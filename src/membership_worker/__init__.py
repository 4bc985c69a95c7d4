"""Applies membership changes to Redis: read, decode, apply, publish counts, commit."""
