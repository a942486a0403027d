"""The registry that several hubs share, in a Valkey or Redis server, or a cluster of them."""
