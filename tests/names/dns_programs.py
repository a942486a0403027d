"""Programs that run in a namespace by `python -c`: a resolver for names that are not ours, and a question to one."""

from __future__ import annotations

from typing import Final

RESOLVER: Final = """
import socketserver, sys, dns.message, dns.rrset
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        raw, at = self.request
        answer = dns.message.make_response(dns.message.from_wire(raw))
        if answer.question[0].rdtype == 1:
            answer.answer.append(dns.rrset.from_text(answer.question[0].name, 0, "IN", "A", "192.0.2.77"))
        at.sendto(answer.to_wire(), self.client_address)
server = socketserver.UDPServer((sys.argv[1], 53), Handler)
print("ready", flush=True)
server.serve_forever()
"""
"""At the address that is its argument: every name has 192.0.2.77. Prints "ready"."""

ASK: Final = """
import sys, dns.message, dns.query, dns.rcode
server, name, kind = sys.argv[1:]
answer = dns.query.udp(dns.message.make_query(name, kind), server, timeout=4)
print(dns.rcode.to_text(answer.rcode()), *(record.to_text() for found in answer.answer for record in found))
"""
"""Arguments: the server's address, a name, a type. Prints the response code and the records."""
