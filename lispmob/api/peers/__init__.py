"""The control socket about peers and names."""
