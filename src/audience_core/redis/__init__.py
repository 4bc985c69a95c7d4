"""Redis: the names of keys, the scripts, and the stores that read and write them."""
