"""Invitations: invited and joined nodes, and their sites."""
