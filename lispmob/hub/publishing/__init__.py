"""Publish/subscribe in the Map-Server (RFC 9437)."""
