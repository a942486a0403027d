"""Typed face of the little that is called of pyroute2 0.9."""
