"""lispd, put together: translation between the parts, what is remembered, and what the control socket shows."""
