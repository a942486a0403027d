"""Info-Requests at the Map-Server: the node's outside address, and the RTRs (LISP NAT-traversal drafts).

In E19 the request is authenticated with the site's key, and so is the answer. lispers.net sends a host name and no
authentication: its unauthenticated answers are given only if configured.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.map_server.asker_limits import AskerLimits, Rate
from lispmob.hub.map_server.effect import Arrival, HubEffect
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.hub.map_server.site import SiteTable
from lispmob.protocol.effect import SendControl
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.auth import sign
from lispmob.wire.eid import to_prefix
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import NatTraversal

LIST_TTL_MIN: Final = 60  # ours: a node asks again after an hour, and whenever it moves
OCTETS_LIMIT: Final = 512  # ours: an Info-Request is some 60 octets, and not authenticated when it is read
REPEAT_S: Final = 1.0  # ours: the same request again, which may be a replay
REPEAT_BURST: Final = 3
PROVED_S: Final = 100  # ours, by site: many nodes may have one
PROVED_BURST: Final = 400
UNPROVED_EACH: Final = Rate(20, 40)  # ours: many nodes may share the public address of one NAT
UNPROVED_STRANGERS: Final = Rate(50, 50)  # ours: the answer is larger than the question
UNPROVED_REGISTERED: Final = Rate(20, 40)


class InfoResponder:
    """Answers Info-Requests. `rtrs` are sent in this order, those of the asker's family."""

    def __init__(
        self,
        sites: SiteTable,
        rtrs: Iterable[IpAddress] = (),
        *,
        answers_e19: bool = True,
        answers_lispers: bool = False,
        offers_itself: bool = False,
        ttl_min: int = LIST_TTL_MIN,
        is_registered: Callable[[IpAddress], bool] = lambda _: False,
    ) -> None:
        """`is_registered`: an authenticated node is at this address."""
        self.counters: Counter[str] = Counter()
        self._ttl_min = ttl_min
        self._is_registered = is_registered
        self._senders: Mapping[IpAddress, IpAddress] = {}
        self._repeats: KeyedBuckets[bytes] = KeyedBuckets(REPEAT_S, REPEAT_BURST, limit=16384)
        self._proved: KeyedBuckets[str] = KeyedBuckets(1 / PROVED_S, PROVED_BURST)
        self._unproved = AskerLimits(UNPROVED_EACH, UNPROVED_STRANGERS, UNPROVED_REGISTERED)
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
        """Sites or RTRs have changed. `offers_itself`: without RTRs, the address that was asked is one."""
        self._sites = sites
        self._offers_itself = offers_itself
        self._rtrs = tuple(rtrs)
        self._answers_e19 = answers_e19
        self._answers_lispers = answers_lispers

    def on_senders(self, senders: Mapping[IpAddress, IpAddress]) -> None:
        """By our addresses, those that data leaves from: nodes take data from the RTR's locator alone."""
        self._senders = senders

    def on_info_request(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """An Info-Request arrived. It is answered to its source, or not at all."""
        is_on_link = arrival.source.is_link_local and arrival.destination.is_link_local
        if not is_sendable(arrival.source, arrival.destination) and not is_on_link:
            return self._drop("rx_policy")
        if arrival.source_port == 0:
            return self._drop("rx_policy")
        if len(arrival.payload) > OCTETS_LIMIT:
            return self._drop("rx_limit")
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
                # Only authenticated requests are charged, and each recorded one separately: none uses up another's
                # share.
                if not self._repeats.take(arrival.payload[4:12] + arrival.source.packed, now):
                    raise MalformedMessage("rx_rate", "the same Info-Request again and again")
                if not self._proved.take(found[1].name, now):
                    raise MalformedMessage("rx_rate", "too many Info-Requests of one site")
                key = dataclasses.replace(key, key_id=request.key_id, is_truncated=False)
                key = dataclasses.replace(key, is_truncated=len(request.authentication) < key.mac_octets)
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
        if not self._unproved.take(arrival.source, now, is_registered=self._is_registered(arrival.source)):
            raise MalformedMessage("rx_rate", "too many Info-Requests without authentication")
        return self._reply(request, arrival).encode()

    def _reply(self, request: InfoRequest, arrival: Arrival) -> InfoReply:
        rtrs = tuple(rtr for rtr in self._rtrs if rtr.version == arrival.source.version)
        if not self._rtrs and self._offers_itself:
            rtrs = (self._senders.get(arrival.destination, arrival.destination),)
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
