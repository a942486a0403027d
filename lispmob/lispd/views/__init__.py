"""What the control socket shows of the daemon."""
