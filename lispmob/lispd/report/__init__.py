"""What the daemon tells by itself: events, moves, problems, the journal."""
