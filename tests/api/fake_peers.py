"""Peers and names of the fake daemon."""

from __future__ import annotations

from lispmob.api.backend import ApiError
from lispmob.api.peers.schema import KnownName, Names, Peer
from lispmob.api.sealing.schema import Seal
from lispmob.api.turns import Pages

NAS = Peer(
    eid="10.99.0.2/32",
    name="nas",
    way="direct",
    uplink="wlan0",
    local="198.51.100.23",
    remote="203.0.113.5",
    rtt_ms=12.34,
    loss=0.015,
    heard_s=0.4,
    used_s=1.0,
    packets_out=1234,
    octets_out=1_234_567,
    packets_in=99,
    octets_in=9_900,
    back_uplink="wwan0",
    back_local="198.51.100.40",
    back_remote="203.0.113.7",
    mtu_bytes=1500,
    is_genuine=True,
    seal=Seal(state="clear", why="its key is not known"),
)
PHONE = Peer(
    eid="10.99.0.3/32",
    way="rtr",
    uplink="wwan0",
    local="198.51.100.23",
    remote="198.18.0.10",
    rtr="198.18.0.10",
    is_reachable=False,
    used_s=70.0,
)
SEEN = KnownName(name="nas", eids=["10.99.0.2"], why="registered", ttl_s=540.0)


class FakePeers:
    """Knows two peers; the first request for names starts the look-up of one."""

    names_asked = 0

    def peers(self) -> Pages:
        asked, self.names_asked = self.names_asked, 0
        return Pages(iter(([NAS], [], [PHONE])), {"names_asked": asked})

    async def peer(self, name_or_eid: str) -> Peer:
        if name_or_eid not in ("nas", "10.99.0.2"):
            raise ApiError("not-found", f"{name_or_eid}: no site of the hub has this name")
        return NAS

    def names(self) -> Names:
        return Names(
            domain="lisp.home.arpa",
            addresses=["10.99.0.7"],
            port=5399,
            problem="Access denied",
            advice="dnsmasq: `server=/lisp.home.arpa/10.99.0.7#5399`",
            counters={"dns_questions": 3},
            entries=[SEEN, KnownName(name="printer", why="the mapping system does not answer", is_answered=False)],
        )

    async def name(self, name_or_eid: str) -> KnownName:
        if name_or_eid == "nas":
            return SEEN
        return KnownName(name=name_or_eid, why="no site has registered it", is_answered=name_or_eid != "silent")
