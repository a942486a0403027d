"""The parts of an engine's interface: table, addresses, keys, liveness, data port, tier."""
