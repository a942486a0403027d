"""Encrypted data between two nodes: whose key it is, and the handshake. Pure."""
