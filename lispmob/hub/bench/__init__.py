"""Programs that measure the hub, for the laboratory."""
