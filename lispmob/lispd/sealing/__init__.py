"""Sealed data in lispd: stored state, and sessions passed to the datapath."""
