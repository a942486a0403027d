"""A network in memory for tests: whole nodes and hubs, losses and NATs, in virtual time."""
