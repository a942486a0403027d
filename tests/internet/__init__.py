"""An internet in memory: whole nodes and hubs, a lossy network, and a clock that runs as fast as it can."""
