"""The sections of hub.conf for nodes behind NATs: the offered RTRs, and being an RTR."""

from __future__ import annotations

from typing import Annotated

from lispmob.config.key import ALGORITHMS
from lispmob.config.reader import Section
from lispmob.config.values import Address, FieldError, KeyFile, KeyId, Secret, SecretText, YesNo, one_of
from lispmob.hub.rtr.relayed import RtrPeer
from lispmob.hub.rtr.rtr import MapServerLink
from lispmob.wire.auth import Key


class LinkSection(Section, frozen=True, kw_only=True):
    """The other end of a link between a Map-Server and an RTR. The RTR needs the key: it accepts nothing without it."""

    address: Address
    key: SecretText | None = None
    key_file: KeyFile | None = None
    key_id: KeyId = 0
    algorithm: Annotated[str, one_of(*ALGORITHMS)] = "hmac-sha-256-128"

    def __post_init__(self) -> None:
        if self.key is not None and self.key_file is not None:
            raise FieldError("key-file", "'key' is given too; one of them")

    @property
    def secret(self) -> Secret | None:
        """The key, from the file or from another file."""
        return self.key or self.key_file

    def to_key(self) -> Key | None:
        """The key for the codec."""
        secret = self.secret
        return None if secret is None else Key(secret.octets, self.key_id, ALGORITHMS[self.algorithm])

    def to_rtr(self) -> RtrPeer:
        """The RTR for the Map-Server."""
        return RtrPeer(self.address, self.to_key())

    def to_map_server(self) -> MapServerLink:
        """The Map-Server for the RTR."""
        return MapServerLink(self.address, self.to_key())


class RtrSection(Section, frozen=True, kw_only=True):
    """Being an RTR. `map_servers` empty: this hub is the Map-Server. `tier`: of the datapath."""

    enabled: YesNo = False
    tier: Annotated[str, one_of("auto", "tun", "ebpf")] = "auto"
    map_servers: tuple[LinkSection, ...] = ()
