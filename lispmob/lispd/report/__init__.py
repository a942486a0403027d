"""The daemon's own reports: events, moves, problems, the journal."""
