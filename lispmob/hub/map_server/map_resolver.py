"""The Map-Resolver: answers Encapsulated Map-Requests, or passes them on (RFC 9301, section 8.3).

The Map-Server of the same hub is asked directly; for EIDs of other Map-Servers the request is forwarded unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.ddt.client import DdtClient, NoMapping, Outcome
from lispmob.hub.ddt.node import DdtNode
from lispmob.hub.ddt.policy import DdtPolicy
from lispmob.hub.map_server.answering import Answer, AskEtr, Mappings, answer, narrowed, told
from lispmob.hub.map_server.asker_limits import AskerLimits, Network, OctetBudget, Rate, network_of
from lispmob.hub.map_server.askers import Askers
from lispmob.hub.map_server.effect import Arrival, HubEffect
from lispmob.hub.map_server.itr_places import (
    Relays,
    families_of,
    if_same_family,
    is_behind_nat,
    is_registered_through,
    itr_rlocs,
    shown_to,
)
from lispmob.hub.map_server.lisp_sec import HubSecurity, Protection, host_of, unprotected, unsigned
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.name_askers import NameAskers
from lispmob.hub.map_server.question import DdtQuestion, Question
from lispmob.hub.map_server.registration import best_address
from lispmob.hub.publishing.publisher import Publisher
from lispmob.hub.publishing.subscription import Place, Subscription
from lispmob.hub.publishing.wish import Wish, places_of
from lispmob.protocol.effect import CONTROL_PORT, SendControl
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.protocol.servers import ResolverSecret
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import MessageType
from lispmob.wire.key_record import without_key_record
from lispmob.wire.map_referral import MapReferral, Referral
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.name_eid import may_be_asked
from lispmob.wire.record import MappingRecord

# ours: RFC 9301 recommends one Map-Reply per 3 s and RLOC for an ETR, but an ITR that starts asks for many EIDs at once
REQUESTS_EACH: Final = Rate(20, 100)
REQUESTS_STRANGERS: Final = Rate(2000, 2000)
REQUESTS_REGISTERED: Final = Rate(1000, 1000)  # a forged one of these receives small answers only
ELSEWHERE_EACH: Final = Rate(5, 20)  # answers sent to another address than the question's source
ELSEWHERE_STRANGERS: Final = Rate(500, 500)
ELSEWHERE_REGISTERED: Final = Rate(50, 100)
EXCESS_OCTETS_S: Final = 10_000  # to one network, beyond the octets of its questions
EXCESS_BURST: Final = 60_000
ONWARD_S: Final = 100  # questions passed on to one ETR or Map-Server
ONWARD_BURST: Final = 200
OCTETS_LIMIT: Final = 1024  # of a question: one EID and its ITR-RLOCs
ADMITTED_LIMIT: Final = 8192  # ours: questions that wait for a shared registry
RECORDS_PER_REQUEST: Final = 4  # ours: RFC 9301 lets senders ask for one EID only; each record may cost a datagram
TO_MAP_SERVER_BIT: Final = 0x01  # M, in the first octet of an ECM


class RemoteMapServer(msgspec.Struct, frozen=True):
    """Another Map-Server, asked about the EIDs of these prefixes. `secret`: shared with it, for LISP-SEC."""

    address: IpAddress
    eids: tuple[EidPrefix, ...]
    secret: ResolverSecret | None = None


class MapResolver:
    """Answers ITRs. `families`: the address families that we can send from (4, 6)."""

    def __init__(
        self,
        map_server: MapServer,
        remotes: Iterable[RemoteMapServer] = (),
        families: Iterable[int] = (4, 6),
        askers: Askers | None = None,
        security: HubSecurity | None = None,
        name_askers: NameAskers | None = None,
        *,
        new_nonce: Callable[[], int],
    ) -> None:
        """`new_nonce` is unpredictable: it protects against forged answers of DDT nodes."""
        self.counters: Counter[str] = Counter()
        self._security = security or HubSecurity()
        self._answered, self._answered_names = askers, name_askers
        self._map_server = map_server
        self._families = frozenset(families)
        self._askers = AskerLimits(REQUESTS_EACH, REQUESTS_STRANGERS, REQUESTS_REGISTERED)
        self._elsewhere = AskerLimits(ELSEWHERE_EACH, ELSEWHERE_STRANGERS, ELSEWHERE_REGISTERED)
        self._excess = OctetBudget(EXCESS_OCTETS_S, EXCESS_BURST)
        self._onward: KeyedBuckets[tuple[Network, bool]] = KeyedBuckets(1 / ONWARD_S, ONWARD_BURST)
        self._remotes: PrefixTable[IpAddress] = PrefixTable()
        self._relays = Relays()
        self.own_keys: Mapping[EidPrefix, MappingRecord] = {}  # sent for our own addresses, with LISP-SEC only
        self._admitted: dict[Arrival, None] = {}  # within their limits, and waiting for a shared registry
        self._ddt: DdtClient[DdtQuestion] = DdtClient(new_nonce, self._families, self.counters, self._may_pass_on)
        self._ddt_node: DdtNode | None = None
        self._publisher: Publisher | None = None
        self.on_remotes(remotes)

    def on_publisher(self, publisher: Publisher) -> None:
        """Take the object that keeps subscriptions (RFC 9437)."""
        self._publisher = publisher

    def on_families(self, families: Iterable[int]) -> None:
        """Take the families that we can send to, now that the sockets are open."""
        self._families = frozenset(families)
        self._ddt.on_families(self._families)

    def on_ddt(self, policy: DdtPolicy) -> None:
        """Take our place in the delegated database tree (RFC 8111)."""
        self._ddt_node = DdtNode(policy, self._map_server) if policy.is_node else None
        self._ddt.on_policy(policy)

    def wake_at(self) -> float | None:
        """When on_timer is due; None for never."""
        return self._ddt.wake_at()

    def on_timer(self, now: float) -> list[HubEffect]:
        """Check whether a DDT node has failed to answer in time."""
        return self._searched(self._ddt.on_timer(now), now)

    def on_map_referral(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """Handle a Map-Referral (RFC 8111, section 6.4)."""
        if not self._ddt.expects(arrival.source, int.from_bytes(arrival.payload[4:12])):
            return self._drop("rx_nonce")
        try:
            referral = MapReferral.decode(arrival.payload)
        except MalformedMessage as error:
            return self._drop(error.counter)
        return self._searched(self._ddt.on_map_referral(referral, arrival.source, now), now)

    def on_relays(self, relays: Relays) -> None:
        """Take our addresses that relay data between registered EIDs; none when this hub is no RTR."""
        self._relays = relays

    def on_remotes(self, remotes: Iterable[RemoteMapServer]) -> None:
        """Take the other Map-Servers of the configuration."""
        remotes = tuple(remotes)
        self._security.on_hubs({server.address: server.secret for server in remotes if server.secret is not None})
        self._remotes = PrefixTable()
        for remote in remotes:
            for eid in remote.eids:
                self._remotes.insert(eid, remote.address)

    def on_encapsulated_control(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """Handle an ECM: answer the Map-Request in it, or pass it on."""
        if arrival.source == arrival.destination and arrival.source_port == CONTROL_PORT:
            # a registered locator is an address of this hub: what we sent to that "ETR" has come back
            return self._drop("rx_policy")
        if len(arrival.payload) > OCTETS_LIMIT:
            return self._drop("rx_limit")
        if not self._is_admitted(arrival, now):
            return self._drop("rx_rate")
        try:
            ecm = EncapsulatedControl.decode(arrival.payload)
            if ecm.message[0] >> 4 != MessageType.MAP_REQUEST or ecm.destination_port != CONTROL_PORT:
                raise MalformedMessage("rx_type", "an ECM for an ETR or an RTR, not for a Map-Resolver")
            request = MapRequest.decode(ecm.message)
        except MalformedMessage as error:
            return self._drop(error.counter)
        if request.is_smr or request.dont_map_reply:
            return self._drop("rx_policy")
        if len(request.records) > RECORDS_PER_REQUEST:
            return self._drop("rx_limit")
        self.counters["rx_map_request"] += 1
        if not ecm.has_checksum:
            self.counters["rx_ecm_unsummed"] += 1
        referred: list[HubEffect] = []
        if ecm.is_ddt and self._ddt_node is not None:
            referred, is_ours = self._refer(request, arrival, self._ddt_node, now)
            if not is_ours:
                return referred
        sites = self._map_server.sites
        try:
            protection = self._security.open(ecm, request, arrival.source, sites, now)
        except AuthenticationFailed as error:
            self.counters["rx_auth"] += 1
            return self._map_server.complain("auth-failed", arrival.source, str(error), now)
        except MalformedMessage as error:
            return self._drop(error.counter)
        question = Question(ecm, request, arrival, protection)
        if protection is None and self._security.is_required:
            return self._refuse_unprotected(question, now)
        return [*referred, *self._find(question, now)]

    def hosts_in(self, arrival: Arrival, now: float) -> tuple[EidPrefix, ...]:
        """The hosts in our sites that an ECM asks about, where only part of the registry is in memory.

        For a subscription this includes its Source EID, whose xTR-ID has to match. Empty for an ECM that
        `on_encapsulated_control` will not answer.
        """
        if len(arrival.payload) > OCTETS_LIMIT or not self._may_ask(arrival, now):
            return ()
        self._admitted[arrival] = None
        while len(self._admitted) > ADMITTED_LIMIT:
            del self._admitted[next(iter(self._admitted))]
        try:
            request = MapRequest.decode(EncapsulatedControl.decode(arrival.payload).message)
        except MalformedMessage:
            return ()
        asked = (record.eid_prefix for record in request.records[:RECORDS_PER_REQUEST])
        hosts = [_first(prefix) for prefix in asked if prefix is not None]
        is_subscription = any(record.wants_notify for record in request.records)
        if is_subscription and (source := host_of(request.source_eid)) is not None:
            hosts.append(source)
        return tuple(host for host in hosts if self._map_server.sites.of(host) is not None)

    def _is_admitted(self, arrival: Arrival, now: float) -> bool:
        """Whether it may be answered. With a shared registry it must have been looked up before (`hosts_in`)."""
        if not self._map_server.is_shared:
            return self._may_ask(arrival, now)
        if arrival not in self._admitted:
            return False
        del self._admitted[arrival]
        return True

    def _may_ask(self, arrival: Arrival, now: float) -> bool:
        is_registered = self._map_server.is_at(arrival.source)
        return self._askers.take(arrival.source, now, is_registered=is_registered)

    def _refer(self, request: MapRequest, arrival: Arrival, node: DdtNode, now: float) -> tuple[list[HubEffect], bool]:
        """The Map-Referral for a DDT Map-Request, and whether the Map-Request itself is for us too."""
        asked = next((prefix for record in request.records if (prefix := record.eid_prefix) is not None), None)
        if asked is None or len(request.records) != 1:
            return self._drop("rx_policy"), False
        if not self._map_server.is_complete:
            self._map_server.read(_first(asked), now)
        record = node.refer(asked, network_of(arrival.source))
        if record is None:
            return self._drop("tx_rate"), False
        payload = MapReferral(request.nonce, (record,)).encode()
        if not self._excess.take(arrival.source, len(payload) - len(arrival.payload), now):
            return self._drop("tx_rate"), False
        self.counters["tx_map_referral"] += 1
        source = if_same_family(arrival.destination, arrival.source)
        sent = SendControl(payload, arrival.source, arrival.source_port, source=source)
        return [sent], record.referral == Referral.MS_ACK

    def _searched(self, outcomes: Iterable[Outcome[DdtQuestion]], now: float) -> list[HubEffect]:
        """The next step of a search in the delegated database tree: another question, or a negative answer."""
        effects: list[HubEffect] = []
        for outcome in outcomes:
            if isinstance(outcome, NoMapping):
                question, record = outcome.question.question, outcome.record
                if outcome.is_unsigned and record.eid_prefix is not None:
                    record = unsigned(record.eid_prefix)
                effects += self._reply(question, (record,), now, has_e_bit=outcome.is_unsigned)
            else:
                effects.append(outcome)
        return effects

    def _find(self, question: Question, now: float) -> list[HubEffect]:
        """Answer each record: by another Map-Server, by its ETR, or by ourselves with one Map-Reply for all."""
        request, arrival = question.request, question.arrival
        effects: list[HubEffect] = []
        is_unsigned = False
        said: dict[EidPrefix | DistinguishedName | None, MappingRecord] = {}
        for record in request.records:
            asked = record.eid_prefix
            if isinstance(record.eid, DistinguishedName) and may_be_asked(record.eid.name, record.mask_len):
                said[record.eid] = self._map_server.names.answer(record.eid)
                continue
            if asked is None:
                self.counters["rx_policy"] += 1
                continue
            if question.protection is not None and (own := self.own_keys.get(asked)) is not None:
                said[asked] = own
                continue
            if not self._map_server.is_complete:
                effects += self._map_server.read(_first(asked), now)
            is_elsewhere = self._map_server.sites.of(_first(asked)) is None or self._remote_for(asked) is not None
            if record.wants_notify and is_elsewhere and not self._may_subscribe(question):
                record = replace(record, wants_notify=False)  # the hub there relies on us to check who may subscribe
            if (remote := self._remote_for(asked)) is not None:
                passed_on = self._pass_on(question, record, remote)
                if passed_on is None:
                    is_unsigned, said[asked] = True, unsigned(asked)
                    continue
                effects += self._onwards(passed_on, arrival, now)
            elif self._ddt.is_on and not question.is_from_tree and self._map_server.sites.of(_first(asked)) is None:
                search = DdtQuestion(question, record, self._security, self._map_server.is_at(arrival.source))
                effects += self._searched(self._ddt.ask(search, asked, now), now)
            elif isinstance(found := self._answer(asked), AskEtr):
                if is_registered_through(found.record, arrival.source):
                    self.counters["rx_rtr_asks"] += 1
                    continue
                sent = self._ask_etr(question, record, found.record)
                if sent is None:
                    prefix = found.record.eid_prefix
                    assert prefix is not None, found
                    is_unsigned, said[prefix] = True, unsigned(prefix)
                    continue
                effects += self._onwards(sent, arrival, now)
                self._remember(request, (found.record,), arrival, now)
            elif any(is_registered_through(one, arrival.source) for one in found.records):
                self.counters["rx_rtr_asks"] += 1
            else:
                shown = tuple(shown_to(mapping, arrival.source) for mapping in found.records)
                taken = self._subscribe(question, asked, shown, now) if record.wants_notify else None
                if taken is None:
                    said.update((mapping.eid_prefix, mapping) for mapping in shown)
                elif isinstance(taken, MappingRecord):
                    said[asked] = taken
                else:
                    effects += taken
        if said:
            records = tuple(
                self._relays.bridge(mapping, families_of(request), arrival.destination) for mapping in said.values()
            )
            effects += self._reply(question, records, now, has_e_bit=is_unsigned)
            self._remember(request, records, arrival, now)
        return effects

    def _may_subscribe(self, question: Question) -> bool:
        """Whether the sender may subscribe anywhere: it is one of our nodes, and not behind a NAT.

        Another hub relies on this check (RFC 9437, 5), and a NAT would drop that hub's Map-Notify.
        """
        if self._publisher is None or question.protection is None or is_behind_nat(question.request, question.arrival):
            return False
        return self._publisher.may_subscribe(question.request, question.protection)

    def _subscribe(
        self, question: Question, asked: EidPrefix, found: tuple[MappingRecord, ...], now: float
    ) -> list[HubEffect] | MappingRecord | None:
        """The answer to a subscription; None: it is answered as any other Map-Request."""
        request, arrival = question.request, question.arrival
        if self._publisher is None or question.protection is None:
            return None  # without a security association a publication could not be authenticated
        effects: list[HubEffect] = []
        if not self._map_server.is_complete and (source := host_of(request.source_eid)) is not None:
            effects += self._map_server.read(source, now)
        is_bound = is_behind_nat(request, arrival) and arrival.source_port
        binding = Place(arrival.source, arrival.source_port, is_binding=True) if is_bound else None
        families = families_of(request)
        places = places_of(itr_rlocs(request, arrival, self._families), binding)
        told_now = tuple(self._relays.bridge(mapping, families, arrival.destination) for mapping in found)
        wish = Wish(request, asked, question.protection, arrival, told_now, places, families)
        taken = self._publisher.on_request(wish, now)
        if not isinstance(taken, list):
            return taken
        return [*effects, *taken]

    def published(self, subscription: Subscription, changed: EidPrefix) -> tuple[MappingRecord, ...]:
        """The records for a subscriber of a registered prefix that has changed."""
        record = told(self._map_server.sites, self._map_server.registrations, changed, subscription.prefix)
        shown = shown_to(record, subscription.places[0].address)
        return (self._relays.bridge(shown, subscription.families, subscription.own),)

    def _refuse_unprotected(self, question: Question, now: float) -> list[HubEffect]:
        """Answer a request without LISP-SEC, where it is required, with that fact only."""
        self.counters["sec_missing"] += 1
        asked: dict[EidPrefix | DistinguishedName, None] = {}
        for record in question.request.records:
            eid = record.eid if isinstance(record.eid, DistinguishedName) else record.eid_prefix
            if eid is not None:
                asked[eid] = None
        return self._reply(question, tuple(map(unprotected, asked)), now) if asked else []

    def _answer(self, asked: EidPrefix) -> Answer:
        """The Map-Server's answer; for one host only where not all of the registry is in memory."""
        if self._map_server.knows_all:
            return answer(self._map_server.sites, self._map_server.registrations, asked)
        host = _first(asked)
        found = answer(self._map_server.sites, self._map_server.registrations, host)
        if isinstance(found, AskEtr):
            return found
        return Mappings((narrowed(found.records[0], host),))

    def _remote_for(self, asked: EidPrefix) -> IpAddress | None:
        """The other Map-Server to ask, unless one of our sites is the longer match."""
        remote = self._remotes.covering(asked)
        own = self._map_server.sites.of(asked)
        if not remote or (own is not None and own[0].mask_len >= remote[0][0].mask_len):
            return None
        return remote[0][1]

    def _pass_on(self, question: Question, record: EidRecord, remote: IpAddress) -> list[HubEffect] | None:
        """Pass the request to another Map-Server, marked; a request marked already is not passed on, which prevents
        loops.

        None where the request has LISP-SEC and no secret is shared with the hub there.
        """
        ecm, request, arrival = question.ecm, question.request, question.arrival
        if ecm.to_map_server or remote in (arrival.source, arrival.destination):
            return self._drop("rx_loop")
        authentication = None
        if question.protection is not None:
            authentication = self._security.for_hub(question.protection, remote, request.nonce)
            if authentication is None:
                return None
        if question.passes_as_it_is:
            payload = bytes((arrival.payload[0] | TO_MAP_SERVER_BIT,)) + arrival.payload[1:]
        else:
            payload = question.onwards(record, authentication, to_map_server=True).encode()
        self.counters["tx_map_request_passed_on"] += 1
        return [SendControl(payload, remote)]

    def _ask_etr(self, question: Question, record: EidRecord, mapping: MappingRecord) -> list[HubEffect] | None:
        """Pass the request to the ETR, unchanged but for LISP-SEC (RFC 9301, 8.4): it answers the ITR itself.

        None where the request has LISP-SEC and no ETR of the mapping can sign.
        """
        arrival = question.arrival
        etr = best_address(mapping, self._families, arrival.destination)
        authentication = None
        if question.protection is not None:
            signing = self._signing_etr(question, question.protection, mapping)
            if signing is None:
                return None
            etr, authentication = signing
        if etr is None:
            return self._drop("tx_no_etr")
        payload = arrival.payload
        if not question.passes_as_it_is:
            payload = question.onwards(record, authentication).encode()
        self.counters["tx_map_request_to_etr"] += 1
        return [SendControl(payload, etr, source=if_same_family(arrival.destination, etr))]

    def _signing_etr(
        self, question: Question, protection: Protection, mapping: MappingRecord
    ) -> tuple[IpAddress | None, bytes] | None:
        """An ETR of the mapping that signs (no address: none that we can send to), and the AD of the ECM for it."""
        registration = self._map_server.registrations.get(mapping.eid_prefix) if mapping.eid_prefix else None
        signing = [part for part in registration or () if part.has_lisp_sec]
        for part in signing:
            etr = best_address(part.record, self._families, question.arrival.destination)
            if etr is None and part is not signing[-1]:
                continue
            assert registration is not None
            nonce, sites = question.request.nonce, self._map_server.sites
            authentication = self._security.for_etr(protection, part, registration, sites, nonce)
            return None if authentication is None else (etr, authentication)
        return None

    def _onwards(self, sent: list[HubEffect], arrival: Arrival, now: float) -> list[HubEffect]:
        """Limit what is passed to an ETR or a Map-Server: strangers get no larger share than registered senders."""
        is_known = self._map_server.is_at(arrival.source)
        return [
            effect
            for effect in sent
            if not isinstance(effect, SendControl) or self._may_pass_on(effect.destination, is_known, now)
        ]

    def _may_pass_on(self, destination: IpAddress, is_known: bool, now: float) -> bool:
        """Whether an ETR or a server may be sent another request of an ITR that is registered here, or is not."""
        return self._onward.take((network_of(destination), is_known), now) or bool(self._drop("tx_rate"))

    def _reply(
        self, question: Question, records: tuple[MappingRecord, ...], now: float, *, has_e_bit: bool = False
    ) -> list[HubEffect]:
        request, arrival, port = question.request, question.arrival, question.ecm.source_port
        itr = next(iter(itr_rlocs(request, arrival, self._families)), None)
        if is_behind_nat(request, arrival):
            itr, port = arrival.source, arrival.source_port
        if itr is None or port == 0:
            return self._drop("rx_policy")
        if itr != arrival.source and not self._elsewhere.take(itr, now, is_registered=self._map_server.is_at(itr)):
            return self._drop("tx_rate")
        reply = MapReply(request.nonce, records)
        protection = question.protection
        if protection is None:
            # without authentication a key is worthless, and Open Overlay Router rejects messages with such a record
            reply = MapReply(request.nonce, tuple(map(without_key_record, records)))
        payload = reply.encode() if protection is None else protection.reply(reply, has_e_bit=has_e_bit)
        excess, is_registered = len(payload) - len(arrival.payload), self._map_server.is_at(itr)
        if not self._excess.take(itr, excess, now, is_registered=is_registered, is_asker=itr == arrival.source):
            return self._drop("tx_rate")
        self.counters["tx_map_reply"] += 1
        return [SendControl(payload, itr, port, source=if_same_family(arrival.destination, itr))]

    def _remember(self, request: MapRequest, records: Iterable[MappingRecord], arrival: Arrival, now: float) -> None:
        """Remember the ITR: it is notified when the answer changes."""
        itr = next(iter(itr_rlocs(request, arrival, self._families)), None)
        is_registered = itr is not None and self._map_server.is_at(itr)
        if self._answered is not None and itr is not None:
            self._answered.on_answered(records, itr, arrival.destination, now, is_registered=is_registered)
        if self._answered_names is not None and itr is not None:
            self._answered_names.on_answered(records, itr, arrival.destination, is_registered=is_registered)

    def _drop(self, counter: str) -> list[HubEffect]:
        self.counters[counter] += 1
        return []


def _first(asked: EidPrefix) -> EidPrefix:
    """The first host of the prefix asked for."""
    return EidPrefix.host(asked.address, asked.instance_id)
