"""The RTR: nodes behind NATs, their bindings, and what is relayed for them. Pure."""
