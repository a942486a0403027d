"""Tests of the wire codec, and what they share."""
