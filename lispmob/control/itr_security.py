"""LISP-SEC as an ITR: which Map-Requests are protected, and whether the Map-Reply is genuine (RFC 9303, 6.4 and 6.9).

How it works. A protected Map-Request carries a One-Time-Key, wrapped with a secret that this node shares with the
Map-Resolver. `require` protects all Map-Requests. `prefer` first finds out which Map-Resolvers support LISP-SEC,
because others drop or misread protected requests. It now and then sends a Map-Resolver both kinds at once, until a
genuine reply has come. From then on, over restarts too, all requests are protected, and a reply without LISP-SEC is
refused. If the Map-Server states under its HMAC that an ETR cannot sign, one unprotected request follows.

The key of a Map-Request is kept with its nonce (`resolver.py`). Refusals are kept by EID-Prefix, so that `lispctl` can
say why there is no mapping.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

import msgspec

from lispmob.protocol.effect import Count, Event, MachineEffect
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.protocol.servers import LispSecMode, ResolverSecret
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key
from lispmob.wire.eid import to_prefix
from lispmob.wire.lisp_sec import EcmSecurity, EidAuthentication
from lispmob.wire.lisp_sec_auth import Fault, KeyWrap, NotGenuine
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import MappingRecord

TRIAL_FIRST_S: Final = 30.0  # ours: between trials of whether a Map-Resolver supports LISP-SEC; doubles
TRIAL_MAX_S: Final = 3600.0
EVENT_S: Final = 60.0  # ours: one event a minute about the same fault of the same Map-Resolver
FAULTS_KEPT: Final = 64  # ours: EIDs whose fault is kept
MARKS_KEPT: Final = 32  # ours: more Map-Resolvers than any node has
FAULT_HOLDS_S: Final = 300.0  # ours: how long a refusal is shown as current

Ways: TypeAlias = tuple[bool, ...]
"""How to ask now: with protection (True), without, or both, in this order."""

_PLAIN: Final[Ways] = (False,)
_PROTECTED: Final[Ways] = (True,)
_BOTH: Final[Ways] = (False, True)  # unprotected first: a resolver without LISP-SEC answers no later than before


class RefusalReason(Enum):
    """Why there is no genuine mapping. The value is the key of the problem that is shown."""

    MISSING = "no-lisp-sec"
    FORGED = "lisp-sec-forged"
    ALGORITHM = "lisp-sec-algorithm"
    OVERCLAIM = "lisp-sec-overclaim"
    UNSIGNED = "lisp-sec-unsigned"
    SILENT = "lisp-sec-unanswered"


_REASONS: Final = MappingProxyType(
    {
        Fault.MISSING: RefusalReason.MISSING,
        Fault.HMAC: RefusalReason.FORGED,
        Fault.AUTH: RefusalReason.FORGED,
        Fault.ALGORITHM: RefusalReason.ALGORITHM,
        Fault.PREFIX: RefusalReason.OVERCLAIM,
    }
)
_SENTENCES: Final = MappingProxyType(
    {
        RefusalReason.MISSING: "the answers of Map-Resolver {resolver} have no LISP-SEC",
        RefusalReason.FORGED: "answers from Map-Resolver {resolver} are forged, or changed on the path: {why}",
        RefusalReason.ALGORITHM: "Map-Resolver {resolver} answers with other algorithms than it was asked for: {why}",
        RefusalReason.OVERCLAIM: "its ETR answers for more than the Map-Server lets it: {why}",
        RefusalReason.UNSIGNED: "its ETR cannot sign (LISP-SEC), and security: lisp-sec is 'require'",
        RefusalReason.SILENT: "Map-Resolver {resolver} does not answer Map-Requests with LISP-SEC: it may not know it, "
        "or have another key for us",
    }
)


class Refused(msgspec.Struct, frozen=True):
    """The last refusal about an EID-Prefix. `is_over`: a genuine reply has come since."""

    reason: RefusalReason
    asked: EidPrefix
    resolver: IpAddress
    text: str
    at: float
    is_over: bool = False


def derived_secret(key: Key, mode: LispSecMode) -> ResolverSecret | None:
    """The secret derived from a key that we share with a Map-Resolver for another purpose (ours).

    None under `prefer` for a key that may be Open Overlay Router's, which knows HMAC-SHA-1 alone, with the full digest:
    it may not survive a Map-Request with LISP-SEC.
    """
    may_be_old = key.algorithm is Algorithm.HMAC_SHA_1_96 and not key.is_truncated
    if mode == "off" or (may_be_old and mode == "prefer"):
        return None
    return ResolverSecret(lisp_sec_auth.resolver_secret(key.secret), key.key_id)


class Memory(Protocol):
    """Stores marks of Map-Resolvers over restarts, and handles its own failures."""

    def load(self) -> frozenset[str]:
        """The stored marks."""
        ...

    def save(self, marks: Iterable[str]) -> None:
        """Store these, and no others."""
        ...


class _NoMemory:
    def load(self) -> frozenset[str]:
        return frozenset()

    def save(self, marks: Iterable[str]) -> None:
        pass


class LispSecTools(msgspec.Struct, frozen=True):
    """What LISP-SEC needs from outside: key wrap, 16 unpredictable octets per call, and a memory."""

    wrap: KeyWrap
    new_otk: Callable[[], bytes]
    memory: Memory = msgspec.field(default_factory=_NoMemory)


class ItrSecurity:
    """Holds the Map-Resolvers' secrets, and which Map-Resolvers have shown that they support LISP-SEC."""

    def __init__(
        self, mode: LispSecMode, secrets: Mapping[IpAddress, ResolverSecret], tools: LispSecTools | None = None
    ) -> None:
        """Without `tools` LISP-SEC is off. Then `require` raises ValueError."""
        self._tools = tools
        self._secrets: dict[IpAddress, ResolverSecret] = {}
        self._marks: dict[IpAddress, str] = {}
        self._shown = set(tools.memory.load()) if tools is not None else set()  # marks
        self._trials: dict[IpAddress, tuple[float, float]] = {}  # time of the next trial, and the pause after it
        self._refused: OrderedDict[EidPrefix, Refused] = OrderedDict()
        self._events: KeyedBuckets[tuple[IpAddress, RefusalReason]] = KeyedBuckets(EVENT_S)
        self.on_config(mode, secrets)

    def on_config(self, mode: LispSecMode, secrets: Mapping[IpAddress, ResolverSecret]) -> None:
        """The configuration has changed. A Map-Resolver keeps its mark as long as its secret is the same.

        `off` clears the marks: the way back if a Map-Resolver has dropped LISP-SEC.
        """
        if mode == "require" and self._tools is None:
            raise ValueError("LISP-SEC is required, and there is no key wrap")
        former = self._secrets
        self._mode: LispSecMode = mode if self._tools is not None else "off"
        self._secrets = dict(secrets)
        self._marks = {resolver: _mark(resolver, secret) for resolver, secret in secrets.items()}
        if mode == "off" and self._shown:
            self._shown = set()
            self._keep()
        self._trials = {one: at for one, at in self._trials.items() if former.get(one) == self._secrets.get(one)}

    @property
    def is_required(self) -> bool:
        """True when no mapping is accepted without LISP-SEC."""
        return self._mode == "require"

    def has_shown(self, resolver: IpAddress) -> bool:
        """Whether a genuine reply has come through this Map-Resolver."""
        return self._marks.get(resolver) in self._shown

    def ways(self, resolver: IpAddress, now: float) -> Ways:
        """How to ask this Map-Resolver now; empty if it must be protected and cannot be."""
        if self._mode == "off" or (resolver not in self._secrets and not self.is_required):
            return _PLAIN
        if resolver not in self._secrets:
            return ()
        if self.is_required or self.has_shown(resolver):
            return _PROTECTED
        at, pause = self._trials.get(resolver, (now, TRIAL_FIRST_S))
        if now < at:
            return _PLAIN
        self._trials[resolver] = now + pause, min(2 * pause, TRIAL_MAX_S)
        return _BOTH

    def is_protected_first(self, resolver: IpAddress) -> bool | None:
        """Whether the first Map-Request to this Map-Resolver is protected (`ways`); None: it must not be asked."""
        if self._mode == "off" or (resolver not in self._secrets and not self.is_required):
            return False
        if resolver not in self._secrets:
            return None
        return self.is_required or self.has_shown(resolver)

    def protect(self, nonce: int, resolver: IpAddress) -> tuple[bytes, bytes]:
        """A new ITR-OTK for a Map-Request, and the AD of its ECM. Call it only if `ways` includes protection."""
        assert self._tools is not None, resolver
        secret, otk = self._secrets[resolver], self._tools.new_otk()
        wrapped = lisp_sec_auth.wrapped_otk(self._tools.wrap, nonce, secret.octets, otk)
        eids = EidAuthentication(lisp_sec_auth.HKDF_SHA_256)
        security = EcmSecurity(lisp_sec_auth.HMAC_SHA_256_128, secret.key_id, lisp_sec_auth.AES_KEY_WRAP, wrapped, eids)
        return otk, security.encode()

    def publication_secret(self, otk: bytes, nonce: int) -> bytes:
        """The key of the subscription that a Map-Request with this One-Time-Key and nonce creates (RFC 9437)."""
        return lisp_sec_auth.publication_key(otk, nonce)

    def verify(
        self, reply: MapReply, raw: bytes, otk: bytes, asked: EidPrefix, resolver: IpAddress, now: float
    ) -> tuple[EidAuthentication | None, list[MachineEffect]]:
        """The EID-AD of a genuine Map-Reply to a protected Map-Request; None if the reply must be dropped."""
        try:
            algorithms = lisp_sec_auth.HMAC_SHA_256_128, lisp_sec_auth.HKDF_SHA_256
            eids = lisp_sec_auth.verify_reply(raw, reply, otk, *algorithms)
        except NotGenuine as refused:
            why = str(refused)
            return None, [
                Count(refused.fault.value),
                *self._refuse(_REASONS[refused.fault], asked, resolver, why, now),
            ]
        if not self.has_shown(resolver) and resolver in self._marks:
            self._shown.add(self._marks[resolver])
            self._trials.pop(resolver, None)
            self._keep()
        self._settle(asked)
        for known in [one for one in self._refused.values() if one.reason is RefusalReason.SILENT]:
            if known.resolver == resolver:
                del self._refused[known.asked]  # it was away
        return eids, []

    def vouched(
        self,
        records: Iterable[MappingRecord],
        eids: EidAuthentication,
        asked: EidPrefix,
        resolver: IpAddress,
        now: float,
    ) -> tuple[tuple[MappingRecord, ...], list[MachineEffect]]:
        """The records inside an EID-Prefix that the Map-Server vouches for; the others are discarded and reported."""
        authorized = [prefix for eid in eids.eids if (prefix := to_prefix(eid.eid, eid.mask_len)) is not None]
        kept: list[MappingRecord] = []
        effects: list[MachineEffect] = []
        for record in records:
            prefix = record.eid_prefix
            if prefix is not None and any(eid_prefix.covers(prefix) for eid_prefix in authorized):
                kept.append(record)
                continue
            why = f"it says {prefix or 'an EID that is no IP prefix'}, it may say {', '.join(map(str, authorized))}"
            effects += [Count(Fault.PREFIX.value), *self._refuse(RefusalReason.OVERCLAIM, asked, resolver, why, now)]
        return tuple(kept), effects

    def on_unsigned(self, asked: EidPrefix, resolver: IpAddress, now: float) -> list[MachineEffect]:
        """The Map-Server states that no ETR of this EID can sign; under `require` the lookup ends here."""
        return self._refuse(RefusalReason.UNSIGNED, asked, resolver, "", now)

    def on_unanswered(self, asked: EidPrefix, resolver: IpAddress, now: float) -> list[MachineEffect]:
        """All protected Map-Requests for it went unanswered, and no other kind was sent."""
        known = self._refused.get(asked)
        if known is not None and not known.is_over and now - known.at <= FAULT_HOLDS_S:
            return []  # what came instead is the better explanation
        return self._refuse(RefusalReason.SILENT, asked, resolver, "", now)

    def refused(self, now: float) -> tuple[Refused, ...]:
        """Recent refusals, latest first."""
        return tuple(refusal for refusal in reversed(self._refused.values()) if now - refusal.at <= FAULT_HOLDS_S)

    def why_refused(self, asked: EidPrefix, now: float) -> str | None:
        """Why there is no mapping for this EID, in one clause; None when LISP-SEC is not the reason."""
        return next(
            (refusal.text for refusal in self.refused(now) if not refusal.is_over and refusal.asked.covers(asked)), None
        )

    def _keep(self) -> None:
        if len(self._shown) > MARKS_KEPT:
            self._shown &= set(self._marks.values())  # the other marks belong to secrets that are gone
        if self._tools is not None:
            self._tools.memory.save(self._shown)

    def _settle(self, asked: EidPrefix) -> None:
        known = self._refused.get(asked)
        if known is not None:
            self._refused[asked] = Refused(known.reason, asked, known.resolver, known.text, known.at, is_over=True)

    def _refuse(
        self, reason: RefusalReason, asked: EidPrefix, resolver: IpAddress, why: str, now: float
    ) -> list[MachineEffect]:
        if not self.is_required and not self.has_shown(resolver):
            return []  # it was a trial, and nothing depends on it
        text = _SENTENCES[reason].format(resolver=resolver, why=why)
        self._refused[asked] = Refused(reason, asked, resolver, text, now)
        self._refused.move_to_end(asked)
        if len(self._refused) > FAULTS_KEPT:
            self._refused.popitem(last=False)
        if not self._events.take((resolver, reason), now):
            return []
        return [Event("lisp-sec-refused", {"eid": str(asked), "map_resolver": str(resolver), "text": text})]


def _mark(resolver: IpAddress, secret: ResolverSecret) -> str:
    """The stored mark of a Map-Resolver: 32 hexadecimal digits, different for each secret."""
    text = b"lispmob shown" + resolver.packed + bytes((secret.key_id,)) + secret.octets
    return hashlib.sha256(text).hexdigest()[:32]
