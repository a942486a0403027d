"""The methods of the control socket about peers and names."""

from __future__ import annotations

from typing import Any, Final

from lispmob.api.backend import ApiError
from lispmob.api.method import Method
from lispmob.api.peers.backend import PeerBackend
from lispmob.api.peers.schema import NameParams, PeersParams
from lispmob.api.schema import NoParams

NAME_MAX: Final = 255  # RFC 1035, 2.3.4


def _checked(what: str, text: str) -> str:
    if not 0 < len(text) <= NAME_MAX or not text.isascii() or not text.isprintable():
        raise ApiError("params", f"{what}: a name of 1 to {NAME_MAX} printable ASCII characters, or an EID")
    return text


def _peers(backend: PeerBackend, params: PeersParams) -> Any:
    return backend.peers() if params.peer is None else backend.peer(_checked("peer", params.peer))


PEER_METHODS: Final[dict[str, Method]] = {
    "peers": Method(PeersParams, _peers),
    "names": Method(NoParams, lambda backend, _: backend.names()),
    "name": Method(NameParams, lambda backend, params: backend.name(_checked("name", params.name))),
}
