"""Floods: the effect on a node, and on a hub with 10,000 EIDs, of an attacker that sends at full speed."""
