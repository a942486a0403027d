"""Encrypted data between two nodes: the peers' keys, and the handshake. Pure."""
