"""Joining a hub with one line: the invitation, the exchange that redeems it, and the configuration made from it."""
