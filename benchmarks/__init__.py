"""What the system bears, each figure beside its ceiling in the same run (see docs/performance.md)."""
