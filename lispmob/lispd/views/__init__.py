"""The daemon's state as the control socket shows it."""
