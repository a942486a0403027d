"""The wire codec: octets to LISP messages and back. Pure, with the RFCs' field names; no sockets, no time, no state."""
