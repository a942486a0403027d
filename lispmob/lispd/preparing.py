"""Hands prepared Map-Requests to the datapath, with the control port's socket to send each by."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lispmob.datapath.face import asking
from lispmob.protocol.effect import PreparedRequest, UsePrepared
from lispmob.wire.address import IpAddress


def prepared(effect: UsePrepared, socket_for: Callable[[IpAddress], int | None]) -> Iterator[asking.PreparedRequest]:
    """The requests for the datapath. `socket_for`: the socket that sends from an address, if there is one."""
    for request in effect.requests:
        source = request.message.source
        fd = None if source is None else socket_for(source)
        if source is not None and fd is not None:
            yield _for_datapath(request, source, fd)


def _for_datapath(request: PreparedRequest, source: IpAddress, fd: int) -> asking.PreparedRequest:
    message = request.message
    return asking.PreparedRequest(
        nonce=request.nonce,
        instance_id=request.instance_id,
        family=request.family,
        fd=fd,
        ifindex=message.ifindex,
        source=source,
        resolver=message.destination,
        port=message.port,
        message=message.payload,
        inner=request.inner,
        source_at=request.source_at,
    )
