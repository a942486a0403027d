"""Configuration files: text with positions, values with plain words for what they accept, and the node's schema."""
