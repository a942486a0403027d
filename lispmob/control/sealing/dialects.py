"""Data encrypted as RFC 8061 and lispers.net do it: who is asked for a key, and who is answered with one.

How it works.
1. Packets leave in clear for a locator. A Map-Request with P=1 goes there, with a public key in its first ITR-RLOC
   (LCAF 11). It is no probe of the path: Open Overlay Router refuses any message with a key in it.
2. A Map-Reply with a key of the suite that was asked for makes the key of packets to that locator. Without one the next
   dialect is tried, and after the last one the locator is left alone for ten minutes.
3. A Map-Request of others with a key is answered with one, in the locator that the reply leaves from. What comes from
   its ITR-RLOC opens with that.
4. Probes of the path to a lispers.net locator carry the key that is in use, as its own do.
5. A key is replaced after an hour, if packets still leave. RFC 8061 has key-ids that take turns, so nothing is lost.

None of it authenticates the peer, so nothing follows from a packet that opened. Peers that seal are never asked.
Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.control.sealing.dialect_keys import (
    LISPERS_SUITES,
    PUBLIC_OCTETS,
    RFC8061_SUITE,
    DialectKeys,
    DialectName,
    lispers_keys,
    rfc8061_keys,
)
from lispmob.control.sealing.noise import Ciphers
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Count, Event, ForgetDialect, InstallMapping, MachineEffect, SendControl, UseDialect
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.eid import from_prefix
from lispmob.wire.lcaf_contents import ip_addresses, parts
from lispmob.wire.lcaf_types import AfiList, Lcaf, SecurityKey, WireAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord

AGAIN_S: Final = (1.0, 2.0, 4.0)  # ours: until the next try of one dialect
REST_S: Final = 600.0  # ours: a locator that answered without a key, or not at all
REKEY_S: Final = 3600.0  # ours: fewer than 2^32 packets, whatever this host can send
SILENCE_S: Final = 5.0  # ours: between keys that silence is the reason of
SILENT_AGAIN_S: Final = 60.0  # ours: silence again, after another key
ASKED_MAX: Final = 256  # ours: locators that are asked, or have a key
ANSWERED_MAX: Final = 256  # ours: locators that we have given a key
ANSWERS_S: Final = 0.05  # ours: 20 answers a second in all; each costs two scalar multiplications
ANSWERS_BURST: Final = 20
ANSWER_EACH_S: Final = 0.5
ANSWER_EACH_BURST: Final = 8
KEY_OCTETS: Final = 32


class _Asking(msgspec.Struct, eq=False):
    """A locator that packets leave for in clear, or by a key."""

    eid: EidPrefix
    own: EidPrefix
    dialect: int = 0  # its place among those that are tried
    private: bytes = b""
    public: bytes = b""
    nonce: int | None = None
    tries: int = 0
    key_id: int = 0  # of the key in use; 0: none
    used_public: bytes = b""  # of ours, for that key
    since: float = 0.0
    rests_until: float = 0.0
    silent_at: float = float("-inf")


class _Answered(msgspec.Struct, frozen=True):
    """What we have given for one of a locator's keys."""

    theirs: bytes
    ours: bytes


class Dialects:
    """Both sides of it. `draw` gives so many unpredictable octets, `new_nonce` the nonce of a Map-Request."""

    def __init__(
        self,
        wanted: tuple[DialectName, ...],
        *,
        ciphers: Ciphers,
        draw: Callable[[int], bytes],
        new_nonce: Callable[[], int],
    ) -> None:
        self._wanted = wanted
        self._ciphers = ciphers
        self._draw = draw
        self._new_nonce = new_nonce
        self._asked: OrderedDict[IpAddress, _Asking] = OrderedDict()
        self._by_nonce: dict[int, IpAddress] = {}
        self._agenda: Agenda[IpAddress] = Agenda()
        self._answered: OrderedDict[tuple[IpAddress, int], _Answered] = OrderedDict()
        self._answers = TokenBucket(ANSWERS_S, ANSWERS_BURST)
        self._answers_each: KeyedBuckets[int] = KeyedBuckets(ANSWER_EACH_S, ANSWER_EACH_BURST)

    @property
    def wanted(self) -> tuple[DialectName, ...]:
        """The dialects in use, in the order in which locators are asked for them."""
        return self._wanted

    @property
    def locators(self) -> tuple[IpAddress, ...]:
        """Those that were asked for a key."""
        return tuple(self._asked)

    def dialect_of(self, remote: IpAddress) -> DialectName | None:
        """How packets to a locator leave; None: in clear."""
        asking = self._asked.get(remote)
        return self._wanted[asking.dialect] if asking is not None and asking.key_id else None

    def with_key(self, sent: SendControl) -> SendControl:
        """A Map-Request of ours to a locator, with the key in use: lispers.net forgets it if a probe leaves it out."""
        asking = self._asked.get(sent.destination)
        if asking is None or not asking.key_id or self._wanted[asking.dialect] != "lispers-net":
            return sent
        request = decode_control(sent.payload)
        if not isinstance(request, MapRequest) or isinstance(request.itr_rlocs[0], SecurityKey):
            return sent
        first, *others = request.itr_rlocs
        key = SecurityKey(LISPERS_SUITES[0], (asking.used_public,), first)
        keyed = replace(request, itr_rlocs=(key, *others)).encode()
        is_padded = len(sent.payload) > len(request.encode())
        return replace(sent, payload=keyed.ljust(len(sent.payload), b"\0") if is_padded else keyed)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None while no peer is asked."""
        return self._agenda.first()

    def expects(self, nonce: int) -> bool:
        """Whether a Map-Reply with this nonce answers a question of ours."""
        return nonce in self._by_nonce

    def on_config(self, wanted: tuple[DialectName, ...]) -> list[MachineEffect]:
        """A reload. Other dialects: all begins again."""
        if wanted == self._wanted:
            return []
        self._wanted = wanted
        return self.on_slept()

    def on_slept(self) -> list[MachineEffect]:
        """What has slept may have been copied: no key of before is used any more."""
        gone = {*self._asked, *(remote for remote, _ in self._answered)}
        self._asked.clear()
        self._by_nonce.clear()
        self._agenda.clear()
        self._answered.clear()
        return [ForgetDialect(remote, seals) for remote in gone for seals in (True, False)]

    def on_used(self, mapping: InstallMapping, own_eid: EidPrefix, own: LocatorSet, now: float) -> list[MachineEffect]:
        """Packets have left by this forwarding entry. Its locators are asked for a key, unless it is sealed."""
        if not self._wanted or mapping.peer or mapping.must_seal or not mapping.prefix.mask_len:
            return []
        effects: list[MachineEffect] = []
        for locator in mapping.locators:
            remote = locator.address
            if locator.is_relay or own.best(remote.version) is None:
                continue
            asking = self._asked.get(remote)
            if asking is None:
                if len(self._asked) >= ASKED_MAX:
                    effects += self._forget_oldest()
                host = EidPrefix.host(mapping.prefix.address, mapping.prefix.instance_id)
                asking = self._asked[remote] = _Asking(host, own_eid)
            is_old = asking.key_id and now - asking.since >= REKEY_S
            if asking.nonce is None and now >= asking.rests_until and (not asking.key_id or is_old):
                effects += self._ask(remote, asking, own, now)
        return effects

    def on_silence(self, remote: IpAddress, own: LocatorSet, now: float) -> list[MachineEffect]:
        """Packets to it go unanswered. If it has restarted it has lost our key: it is asked for another one.

        Where another key brings no answer either, packets leave in clear again.
        """
        asking = self._asked.get(remote)
        if asking is None or not asking.key_id or asking.nonce is not None or now - asking.since < SILENCE_S:
            return []
        if now - asking.silent_at < SILENT_AGAIN_S:
            return self._give_up(remote, asking, now)
        asking.silent_at = now
        return self._ask(remote, asking, own, now)

    def on_timer(self, own: LocatorSet, now: float) -> list[MachineEffect]:
        """Ask again each peer that has not answered: after the last try in the next dialect, then not for a while."""
        effects: list[MachineEffect] = []
        for remote in self._agenda.due(now):
            if (asking := self._asked.get(remote)) is not None:
                effects += self._next(remote, asking, own, now)
        return effects

    def on_map_reply(self, reply: MapReply, own: LocatorSet, now: float) -> list[MachineEffect]:
        """An answer: with a key of the suite that was asked for, or without."""
        remote = self._by_nonce[reply.nonce]
        asking = self._asked[remote]
        dialect = self._wanted[asking.dialect]
        keys = _offered(reply, dialect, _suite_of(dialect))
        key_id = 2 if dialect == "rfc8061" and asking.key_id == 1 else 1
        theirs = keys[key_id - 1] if len(keys) >= key_id else b""
        shared = self._shared(asking.private, theirs)
        if shared is None:
            asking.tries = len(AGAIN_S) + 1  # it is there, and has no key of that kind
            return [Count("rx_dialect_none"), *self._next(remote, asking, own, now)]
        nonce = reply.nonce
        self._close(asking)
        self._agenda.set(remote, None)
        made = _derived(dialect, shared, asking.public, theirs, nonce)
        is_first = not asking.key_id
        asking.key_id, asking.used_public, asking.since = key_id, asking.public, now
        start = int.from_bytes(self._draw(16)) if dialect == "lispers-net" else 0
        use = UseDialect(remote, dialect, _suite_of(dialect), key_id, True, made.encryption, made.integrity, start)
        asking.private, asking.tries = b"", 0
        told = Event("dialect", {"rloc": str(remote), "dialect": dialect})
        return [use, Count("dialect_key"), *([told] if is_first else [])]

    def on_asked(
        self, request: MapRequest, local: IpAddress, records: tuple[MappingRecord, ...], now: float
    ) -> tuple[tuple[MappingRecord, ...], list[MachineEffect]]:
        """A Map-Request is about to be answered from `local`: the records, and what else follows, if it has a key."""
        offered = next(iter(_keys_of(request.itr_rlocs[:1])), None)
        dialect = None if offered is None else self._dialect_of(offered.cipher_suite)
        if offered is None or dialect is None:
            return records, []
        remote = next(iter(ip_addresses(offered.address)), None)
        if remote is None or offered.is_revoked or not all(len(key) == PUBLIC_OCTETS for key in offered.keys):
            return records, [Count("rx_lcaf")]
        known = [self._answered.get((remote, key_id)) for key_id in range(1, len(offered.keys) + 1)]
        is_known = all(one is not None and one.theirs == key for one, key in zip(known, offered.keys, strict=True))
        if not is_known and not self._may_answer(remote, now):
            return records, [Count("rx_rate")]
        effects: list[MachineEffect] = []
        ours: list[bytes] = []
        for key_id, theirs in enumerate(offered.keys, start=1):
            given = self._answered.get((remote, key_id))
            if given is None or given.theirs != theirs:
                use = self._give(remote, dialect, offered.cipher_suite, key_id, theirs, request.nonce)
                if not use:
                    return records, [Count("rx_auth")]
                effects += use
            ours.append(self._answered[remote, key_id].ours)
        key = SecurityKey(offered.cipher_suite, tuple(ours), local)
        said = AfiList((local, key)) if dialect == "lispers-net" else key
        return tuple(_with_key(record, local, said) for record in records), [*effects, Count("tx_dialect_key")]

    def _give(
        self, remote: IpAddress, dialect: DialectName, suite: int, key_id: int, theirs: bytes, nonce: int
    ) -> list[MachineEffect]:
        """A key pair of ours for one of a locator's keys; nothing where there is no secret with that."""
        private = self._draw(KEY_OCTETS)
        public = self._ciphers.public_key(private)
        shared = self._shared(private, theirs)
        if shared is None:
            return []
        made = _derived(dialect, shared, public, theirs, nonce)
        self._answered[remote, key_id] = _Answered(theirs, public)
        self._answered.move_to_end((remote, key_id))
        use: list[MachineEffect] = [UseDialect(remote, dialect, suite, key_id, False, made.encryption, made.integrity)]
        if len(self._answered) > ANSWERED_MAX:
            (oldest, _), _ = self._answered.popitem(last=False)
            use.append(ForgetDialect(oldest, False))
        return use

    def _may_answer(self, remote: IpAddress, now: float) -> bool:
        if self._answers.available_at(now) > now or not self._answers_each.take(owner_of(remote), now):
            return False
        return self._answers.take(now)

    def _dialect_of(self, suite: int) -> DialectName | None:
        """Which dialect a question with this suite is of: RFC 8061 has suite 5, where it is wanted."""
        if suite == RFC8061_SUITE and "rfc8061" in self._wanted:
            return "rfc8061"
        return "lispers-net" if suite in LISPERS_SUITES and "lispers-net" in self._wanted else None

    def _shared(self, private: bytes, theirs: bytes) -> bytes | None:
        return self._ciphers.shared_secret(private, theirs) if len(theirs) == PUBLIC_OCTETS else None

    def _ask(self, remote: IpAddress, asking: _Asking, own: LocatorSet, now: float) -> list[MachineEffect]:
        uplink = own.best(remote.version)
        if uplink is None:
            return []
        if not asking.private:
            asking.private = self._draw(KEY_OCTETS)
            asking.public = self._ciphers.public_key(asking.private)
        self._close(asking)
        asking.nonce = self._new_nonce()
        self._by_nonce[asking.nonce] = remote
        self._agenda.set(remote, now + AGAIN_S[min(asking.tries, len(AGAIN_S) - 1)])
        asking.tries += 1
        # Key-ids go by position: the key in use stays where it is while the other one is introduced.
        keys = [asking.public]
        if self._wanted[asking.dialect] == "rfc8061" and asking.key_id:
            keys.insert(asking.key_id - 1, asking.used_public)
        suite = _suite_of(self._wanted[asking.dialect])
        request = MapRequest(
            nonce=asking.nonce,
            source_eid=from_prefix(asking.own),
            itr_rlocs=(SecurityKey(suite, tuple(keys), uplink.address),),
            records=(EidRecord.of(asking.eid),),
            is_probe=True,
        )
        sent = SendControl(request.encode(), remote, source=uplink.address, ifindex=uplink.ifindex)
        return [sent, Count("tx_dialect")]

    def _next(self, remote: IpAddress, asking: _Asking, own: LocatorSet, now: float) -> list[MachineEffect]:
        if asking.tries <= len(AGAIN_S) - 1:
            return self._ask(remote, asking, own, now)
        self._close(asking)
        asking.tries, asking.private = 0, b""
        if not asking.key_id and asking.dialect + 1 < len(self._wanted):
            asking.dialect += 1
            return self._ask(remote, asking, own, now)
        return self._give_up(remote, asking, now)  # one with a key has restarted, or speaks it no more

    def _give_up(self, remote: IpAddress, asking: _Asking, now: float) -> list[MachineEffect]:
        was_keyed, asking.dialect, asking.key_id, asking.used_public = asking.key_id, 0, 0, b""
        asking.rests_until = now + REST_S
        self._agenda.set(remote, None)
        return [ForgetDialect(remote, True)] if was_keyed else []

    def _close(self, asking: _Asking) -> None:
        """The question is over: an answer to it counts no more."""
        if asking.nonce is not None:
            self._by_nonce.pop(asking.nonce, None)
        asking.nonce = None

    def _forget_oldest(self) -> list[MachineEffect]:
        remote, asking = self._asked.popitem(last=False)
        self._close(asking)
        self._agenda.set(remote, None)
        return [ForgetDialect(remote, True)] if asking.key_id else []


def _suite_of(dialect: DialectName) -> int:
    return RFC8061_SUITE if dialect == "rfc8061" else LISPERS_SUITES[0]


def _derived(dialect: DialectName, shared: bytes, ours: bytes, theirs: bytes, nonce: int) -> DialectKeys:
    return rfc8061_keys(shared, nonce) if dialect == "rfc8061" else lispers_keys(shared, ours, theirs)


def _offered(reply: MapReply, dialect: DialectName, suite: int) -> tuple[bytes, ...]:
    """The public keys of an answer. Around the locator they are RFC 8061's, beside it in a list lispers.net's."""
    for record in reply.records:
        for locator in record.locators:
            is_list = isinstance(locator.address, AfiList)
            key = next(iter(_keys_of((locator.address,))), None)
            if key is not None and key.cipher_suite == suite and is_list == (dialect == "lispers-net"):
                return key.keys
    return ()


def _keys_of(addresses: Iterable[WireAddress]) -> Iterator[SecurityKey]:
    for address in addresses:
        if isinstance(address, SecurityKey):
            if address.address is not None and address.keys:
                yield address
        elif isinstance(address, Lcaf):
            yield from _keys_of(parts(address))


def _with_key(record: MappingRecord, local: IpAddress, said: WireAddress) -> MappingRecord:
    def told(locator: Locator) -> Locator:
        return replace(locator, address=said) if locator.address == local else locator

    return replace(record, locators=tuple(map(told, record.locators)))
