"""The state file: registrations and nonces that survive a restart."""
