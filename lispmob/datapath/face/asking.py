"""Map-Requests that the datapath may send itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.marshal import Handle
from lispmob.wire.address import IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


class PreparedRequest(msgspec.Struct, frozen=True):
    """A Map-Request to send when a packet has no mapping, without its two EIDs (c/engine/asking.h).

    `family` and `instance_id` are the EIDs'. `inner`: where the inner IP header begins; `source_at`: the source EID's
    address. `fd`: the socket to send by, from `source` at `ifindex` to `resolver`.
    """

    nonce: int
    instance_id: int
    family: int
    fd: int
    ifindex: int
    source: IpAddress
    resolver: IpAddress
    port: int
    message: bytes
    inner: int
    source_at: int


class Asking:
    """The prepared Map-Requests. One is used when a packet has no mapping, and the report of the miss has its nonce."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def add(self, requests: Iterable[PreparedRequest]) -> int:
        """Add them; returns how many were taken. There is room for 16 that were not used."""
        return sum(self._add(request) for request in requests)

    def clear(self) -> None:
        """Forget those that were not used."""
        lib.lm_asking_clear(self._handle.c)

    def _add(self, request: PreparedRequest) -> bool:
        if len(request.message) > lib.LM_ASKING_OCTETS:
            return False
        spec = ffi.new("struct lm_asking_spec *")
        spec.nonce, spec.instance_id, spec.family = request.nonce, request.instance_id, request.family
        spec.fd, spec.ifindex, spec.port = request.fd, request.ifindex, request.port
        marshal.put_address(spec.source, request.source)
        marshal.put_address(spec.resolver, request.resolver)
        spec.length, spec.inner, spec.source_at = len(request.message), request.inner, request.source_at
        ffi.memmove(spec.message, request.message, len(request.message))
        return bool(lib.lm_asking_add(self._handle.c, spec))
