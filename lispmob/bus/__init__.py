"""The system's D-Bus: one connection that listeners and our own service share."""
