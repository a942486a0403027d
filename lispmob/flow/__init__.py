"""Flows to names."""
