"""The configuration of authentication and sealing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias

from lispmob.config.eid import Eid
from lispmob.config.reader import Section
from lispmob.config.values import FieldError, YesNo, hex_octets, one_of
from lispmob.wire.address import EidPrefix
from lispmob.wire.key_record import KEY_OCTETS

PublicKey: TypeAlias = Annotated[bytes, hex_octets(KEY_OCTETS)]
SEAL_MODES: Final = ("off", "prefer", "require")


class SecuritySection(Section, frozen=True, kw_only=True):
    """What has to be proved. `lisp_sec`: that mappings are genuine (RFC 9303). `seal`: that data arrives unchanged.

    `strict_keys`: another key of a peer, though the Map-Server vouches for it, waits for the user's yes.
    `publications`: the Map-Server is asked to say when a peer moves (RFC 9437). `announcements`: peers tell each other.
    `map_versions`: sealed packets say by which mappings they were sent (RFC 9302).
    `dialects`: clear data is encrypted as these do, with peers that can; that authenticates no peer.
    """

    lisp_sec: Annotated[str, one_of("off", "prefer", "require")] = "prefer"
    seal: Annotated[str, one_of(*SEAL_MODES)] = "prefer"
    strict_keys: YesNo = False
    publications: Annotated[str, one_of("off", "prefer")] = "prefer"
    announcements: Annotated[str, one_of("off", "prefer")] = "prefer"
    map_versions: Annotated[str, one_of("off", "sealed")] = "sealed"
    dialects: tuple[Annotated[str, one_of("lispers-net", "rfc8061")], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.dialects)) != len(self.dialects):
            raise FieldError("dialects", "each of lispers-net and rfc8061 once at most")
        if self.dialects and self.seal == "require":
            raise FieldError("dialects", "with `seal: require` nothing leaves in clear, so none of them is ever used")

    def tier(self, wish: str) -> str:
        """The tier of the datapath in place of the one wished for: dialects are not for the kernel's programs."""
        return "tun" if self.dialects else wish


class PeerSection(Section, frozen=True, kw_only=True):
    """The static key of another node, which takes precedence over the mapping system's."""

    eids: tuple[Eid, ...]
    public_key: PublicKey

    def __post_init__(self) -> None:
        if not self.eids:
            raise FieldError("eids", "at least one EID-Prefix is needed")


def check_peers(peers: Iterable[PeerSection], own: Iterable[EidPrefix]) -> None:
    """Raise FieldError for an EID-Prefix with two keys, and for one of ours."""
    seen: set[EidPrefix] = set()
    ours = tuple(own)
    for index, peer in enumerate(peers):
        for place, eid in enumerate(peer.eids):
            key = f"peers[{index}].eids[{place}]"
            if eid in seen:
                raise FieldError(key, f"{eid} is listed twice; it has one key")
            if any(our.covers(eid) for our in ours):
                raise FieldError(key, f"{eid} is in our own EID-Prefix")
            seen.add(eid)
