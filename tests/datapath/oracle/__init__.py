"""What the C and the BPF programs must do, written a third time in Python: the same cases go through all three."""
