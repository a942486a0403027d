"""The indicator for a desktop's panel: state, peers, the last move, problems, and a way to leave and to come back."""
