"""The wire codec: octets to values and back, pure, with the RFCs' field names. No sockets, no time, no state."""
