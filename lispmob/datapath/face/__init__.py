"""The parts of an engine's face: what is installed, who may send, keys, liveness, the data port, the tier."""
