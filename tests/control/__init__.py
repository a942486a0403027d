"""The machines, one at a time, in virtual time."""
