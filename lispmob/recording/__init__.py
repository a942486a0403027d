"""What the pure core was fed, as a file; and the core fed with it again, so that a user's bug becomes a test."""

from __future__ import annotations

from lispmob.recording.player import BadRecording, Player, Step, play

__all__ = ["BadRecording", "Player", "Step", "play"]
