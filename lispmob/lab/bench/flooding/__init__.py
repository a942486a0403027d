"""Floods: what becomes of a node, and of a hub with 10,000 EIDs, while a stranger sends as much as he can."""
