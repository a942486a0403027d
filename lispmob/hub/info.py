"""Info-Requests at the Map-Server: what it sees of a node, and which RTRs there are (LISP NAT-traversal drafts).

In E19 the question is authenticated with the site's key, and so is the answer. lispers.net asks with a host name and no
authentication: its answers prove nothing to anybody, and are given only where that is configured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from lispmob.control.effect import SendControl
from lispmob.control.rate_limit import KeyedBuckets, TokenBucket
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.effect import Arrival, HubEffect
from lispmob.hub.host_address import is_sendable
from lispmob.hub.site import SiteTable
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.auth import sign
from lispmob.wire.eid import to_prefix
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import NatTraversal

LIST_TTL_MIN: Final = 60  # ours: a node asks again after an hour, and whenever it moves
REQUESTS_PER_SOURCE_S: Final = 2  # ours: many nodes may share the public address of one NAT
BURST_PER_SOURCE: Final = 20
UNAUTHENTICATED_S: Final = 50  # ours, in all: the answer is larger than the question


class InfoResponder:
    """Answers Info-Requests. `rtrs` go out in their order, those of the asker's family."""

    def __init__(
        self,
        sites: SiteTable,
        rtrs: Iterable[IpAddress] = (),
        *,
        answers_e19: bool = True,
        answers_lispers: bool = False,
        offers_itself: bool = False,
        ttl_min: int = LIST_TTL_MIN,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._ttl_min = ttl_min
        self._per_source: KeyedBuckets[IpAddress] = KeyedBuckets(1 / REQUESTS_PER_SOURCE_S, BURST_PER_SOURCE)
        self._unauthenticated = TokenBucket(1 / UNAUTHENTICATED_S, UNAUTHENTICATED_S)
        self.on_config(
            sites, rtrs, answers_e19=answers_e19, answers_lispers=answers_lispers, offers_itself=offers_itself
        )

    def on_config(
        self,
        sites: SiteTable,
        rtrs: Iterable[IpAddress],
        *,
        answers_e19: bool = True,
        answers_lispers: bool = False,
        offers_itself: bool = False,
    ) -> None:
        """Other sites or RTRs are configured. `offers_itself`: without any, the address that was asked is an RTR."""
        self._sites = sites
        self._offers_itself = offers_itself
        self._rtrs = tuple(rtrs)
        self._answers_e19 = answers_e19
        self._answers_lispers = answers_lispers

    def on_info_request(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """An Info-Request came. It is answered to where it came from, or not at all."""
        is_on_link = arrival.source.is_link_local and arrival.destination.is_link_local
        if not is_sendable(arrival.source, arrival.destination) and not is_on_link:
            return self._drop("rx_policy")
        if arrival.source_port == 0 or not self._per_source.take(arrival.source, now):
            return self._drop("rx_rate")
        try:
            request = InfoRequest.decode(arrival.payload)
            prefix = to_prefix(request.eid, request.mask_len)
            if prefix is None:
                payload = self._unproven(request, arrival, now)
            else:
                found = self._sites.of(prefix)
                if found is None or not self._answers_e19:
                    raise MalformedMessage("rx_policy", f"{prefix}: in no site, or its dialect is not spoken here")
                key = found[1].authenticate(arrival.payload)
                key = replace(key, key_id=request.key_id, is_truncated=False)
                key = replace(key, is_truncated=len(request.authentication) < key.mac_octets)
                payload = sign(self._reply(request, arrival), key)
        except AuthenticationFailed:
            return self._drop("rx_auth")
        except MalformedMessage as error:
            return self._drop(error.counter)
        self.counters["rx_info_request"] += 1
        self.counters["tx_info_reply"] += 1
        return [SendControl(payload, arrival.source, arrival.source_port, source=arrival.destination)]

    def _unproven(self, request: InfoRequest, arrival: Arrival, now: float) -> bytes:
        is_lispers = request.eid is None and isinstance(request.tail, DistinguishedName) and not request.authentication
        if not is_lispers or not self._answers_lispers:
            raise MalformedMessage("rx_auth", "an Info-Request that proves nothing")
        if not self._unauthenticated.take(now):
            raise MalformedMessage("rx_rate", "too many Info-Requests without authentication")
        return self._reply(request, arrival).encode()

    def _reply(self, request: InfoRequest, arrival: Arrival) -> InfoReply:
        rtrs = tuple(rtr for rtr in self._rtrs if rtr.version == arrival.source.version)
        if not self._rtrs and self._offers_itself:
            rtrs = (arrival.destination,)
        nat = NatTraversal(
            ms_port=CONTROL_PORT,
            etr_port=arrival.source_port,
            global_etr_rloc=arrival.source,
            ms_rloc=arrival.destination,
            private_etr_rloc=None,
            rtr_rlocs=rtrs,
        )
        return InfoReply(request.nonce, request.eid, request.mask_len, nat, ttl_min=self._ttl_min)

    def _drop(self, counter: str) -> list[HubEffect]:
        self.counters[counter] += 1
        return []
