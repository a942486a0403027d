"""The control socket about steering."""
