"""An ITR's request to a Map-Resolver, and its forms for forwarding. Pure."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity, Protection
from lispmob.wire.address import IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_request import EidRecord, MapRequest


class Question(msgspec.Struct, frozen=True):
    """A Map-Request as received, and its LISP-SEC parameters, if any."""

    ecm: EncapsulatedControl
    request: MapRequest
    arrival: Arrival
    protection: Protection | None

    def onwards(
        self, record: EidRecord, authentication: bytes | None, *, to_map_server: bool = False
    ) -> EncapsulatedControl:
        """The ECM for another server, about one of the records. The ITR's AD is for us, and is not forwarded."""
        message = replace(self.request, records=(record,)).encode()
        made = replace(self.ecm, message=message, has_checksum=True, authentication=authentication)
        return replace(made, to_map_server=True) if to_map_server else made

    @property
    def is_from_tree(self) -> bool:
        """Whether another Map-Resolver forwarded it: it is answered here, or not at all."""
        return self.ecm.is_ddt or self.ecm.to_map_server

    @property
    def passes_as_it_is(self) -> bool:
        """Whether it may be forwarded unchanged: with all checksums, one EID, and no AD of an ITR."""
        return len(self.request.records) == 1 and self.ecm.has_checksum and self.ecm.authentication is None


class DdtQuestion(msgspec.Struct, frozen=True):
    """One of its records, on its way through the delegated database tree (RFC 8111, section 6.1)."""

    question: Question
    record: EidRecord
    security: HubSecurity
    is_known: bool
    """Whether the ITR is registered here."""

    @property
    def nonce(self) -> int:
        """The ITR's."""
        return self.question.request.nonce

    def for_node(self, nonce: int) -> bytes:
        """The DDT Map-Request for a DDT node: without LISP-SEC, with our nonce."""
        request = replace(self.question.request, nonce=nonce, records=(self.record,))
        ecm = replace(self.question.ecm, message=request.encode(), has_checksum=True, authentication=None, is_ddt=True)
        return ecm.encode()

    def for_map_server(self, server: IpAddress) -> bytes | None:
        """The one for a Map-Server, with LISP-SEC if the ITR uses it; None if no secret is shared with the server."""
        authentication = None
        if self.question.protection is not None:
            authentication = self.security.for_hub(self.question.protection, server, self.nonce)
            if authentication is None:
                return None
        return replace(self.question.onwards(self.record, authentication), is_ddt=True).encode()
