"""The command line and the embedded stack: the only package that knows all the others."""
