"""Invitations: who is invited, who has joined, and the sites that come of it."""
