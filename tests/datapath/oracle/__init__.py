"""What the C and the BPF programs must do, once more in Python: the same cases go through all three."""
