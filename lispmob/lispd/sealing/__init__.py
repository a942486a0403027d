"""Sealed data in lispd: what outlives a restart, and sessions handed to the datapath."""
