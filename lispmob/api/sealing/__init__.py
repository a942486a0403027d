"""The control socket about sealed data."""
