"""The RTR: nodes behind NATs, their bindings, and their relayed traffic. Pure."""
