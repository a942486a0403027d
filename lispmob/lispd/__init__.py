"""The daemon lispd: its parts connected, its stored state, and what the control socket shows."""
