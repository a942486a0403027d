"""The TUN device: opening it, its queues, and the lanes that marks lead to."""
