"""Invited and joined nodes, and the answers to those that redeem an invitation. Pure.

`invite`, `revoke` and `on_question` return what must be stored; `keep` applies it after it was written. So no node
holds a key that the hub forgets in a crash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from lispmob.errors import LispError, MalformedMessage
from lispmob.hub.inviting.invited import InvitedSite
from lispmob.hub.inviting.pool import PoolUsedUp, next_eids
from lispmob.hub.map_server.names import label_of, overlap
from lispmob.hub.map_server.site import Site
from lispmob.joining.exchange import (
    QUESTION_OCTETS,
    QUESTIONS,
    Ciphers,
    Message,
    Settings,
    Verdict,
    accept,
    encoded,
    identifier_of,
    proved_secret,
    refuse,
)
from lispmob.joining.invitation import ID_OCTETS, MAX_ADDRESSES, SECRET_OCTETS, Invitation
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import EidPrefix, IpAddress

KEY_OCTETS: Final = 32
QUESTION_S: Final = 0.5  # ours: between two requests with one secret, or of one sender without one, in the long run
QUESTION_BURST: Final = 10
# Ours: between two MACs that are checked for one invitation; only an on-path attacker knows its ID.
TRIAL_S: Final = 0.02
TRIAL_BURST: Final = 100
IN_ALL_S: Final = 0.02  # ours: between two authenticated requests, because each costs X25519; the same for strangers
IN_ALL_BURST: Final = 100
NAME_SHOWN: Final = 80  # ours: letters of an invalid name
RESERVED: Final = frozenset({"localhost", "ip6-localhost", "ip6-loopback", "broadcasthost", "wpad", "isatap"})
"""Names that programs look up automatically: browsers would take their proxy from a site called wpad."""
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")  # inet_aton(3) reads it as an address, without a lookup


def _shown(name: str) -> str:
    """A name for an error message."""
    return name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}..."


class InvitationRefused(LispError):
    """The operator's request is impossible; the text says why."""


class Offer(msgspec.Struct, frozen=True):
    """The settings of hub.conf for invitations. `addresses`: of this hub, as nodes reach it."""

    addresses: tuple[IpAddress, ...] = ()
    pools: tuple[EidPrefix, ...] = ()
    overlay_prefixes: tuple[EidPrefix, ...] = ()
    domain: str | None = None
    valid_s: float = 86400.0
    lisp_sec: str = "prefer"


class Answered(msgspec.Struct, frozen=True):
    """The answer to the node; `kept` must be written before, and `otherwise` is the answer if that fails."""

    payload: bytes
    kept: InvitedSite | None = None
    otherwise: bytes = b""


class Invitations:
    """All invited sites. `draw` returns that many random octets."""

    def __init__(
        self, offer: Offer, ciphers: Ciphers | None, draw: Callable[[int], bytes], private_key: bytes | None = None
    ) -> None:
        """`private_key`: the hub's permanent X25519 key; without one, invitations contain no public key."""
        self.offer = offer
        self._private_key = private_key
        self._ciphers = ciphers
        self._draw = draw
        self._sites: dict[str, InvitedSite] = {}
        self._configured: tuple[Site, ...] = ()
        self._by_id: dict[bytes, str] = {}
        self._strangers: KeyedBuckets[int] = KeyedBuckets(QUESTION_S, QUESTION_BURST)
        self._all_strangers = TokenBucket(IN_ALL_S, IN_ALL_BURST)
        self._trials: KeyedBuckets[bytes] = KeyedBuckets(TRIAL_S, TRIAL_BURST)
        self._proved: KeyedBuckets[bytes] = KeyedBuckets(QUESTION_S, QUESTION_BURST)
        self._all_proved = TokenBucket(IN_ALL_S, IN_ALL_BURST)

    def __iter__(self) -> Iterator[InvitedSite]:
        """Every invited site, the oldest first."""
        return iter(self._sites.values())

    def use_key(self, private_key: bytes) -> None:
        """The hub's permanent key is available now."""
        self._private_key = private_key

    def on_configured(self, offer: Offer, sites: Iterable[Site]) -> None:
        """The configuration was read; its sites take precedence over invited ones."""
        self.offer, self._configured = offer, tuple(sites)

    def keep(self, site: InvitedSite) -> None:
        """The site was written."""
        if (former := self._sites.get(site.name)) is not None:
            self._forget_ids(former)
        self._sites[site.name] = site
        self._by_id[site.identifier] = site.name
        if site.key is not None:
            self._by_id[identifier_of(site.key)] = site.name

    def forget(self, name: str) -> None:
        """The site was deleted from the file."""
        self._forget_ids(self._sites.pop(name))

    def _forget_ids(self, site: InvitedSite) -> None:
        del self._by_id[site.identifier]
        if site.key is not None:
            del self._by_id[identifier_of(site.key)]

    def sites(self) -> tuple[Site, ...]:
        """The sites without a conflict with a configured one, which keeps its name and EIDs."""
        eids = {eid for site in self._configured for eid in site.eids}
        return tuple(
            invited.to_site()
            for invited in self._sites.values()
            if not self._is_configured(invited.name) and not eids.intersection(invited.eids)
        )

    def displaced(self) -> list[str]:
        """The names of sites with a conflict."""
        there = {site.name for site in self.sites()}
        return [name for name in self._sites if name not in there]

    def invite(
        self, name: str, wall: float, *, is_again: bool = False, valid_s: float | None = None
    ) -> tuple[InvitedSite, Invitation]:
        """A site to store, and the invitation for it. Raises InvitationRefused, PoolUsedUp.

        `is_again`: a new invitation for an existing site; its present node stays until the new one is redeemed.
        """
        if self._ciphers is None:
            raise InvitationRefused("this build cannot invite: libcrypto's headers (libssl-dev) were missing")
        offer = self.offer
        if not offer.addresses:
            raise InvitationRefused(
                "hub.conf does not say by which address nodes reach this hub: 'invitations: {addresses: [ADDRESS]}'"
            )
        label = label_of(name)
        if label is None:
            raise InvitationRefused(
                f"{_shown(name)!r} is no name of a host: 1 to 63 letters (a to z), digits and hyphens, and no hyphen "
                "at an end"
            )
        former = self._former(label, wall, is_again=is_again)
        if former is None and _NUMBER.fullmatch(label):
            raise InvitationRefused(f"programs take {label} for an address: choose a name with a letter")
        if former is None and label in RESERVED:
            raise InvitationRefused(f"programs use the name {label} for something else: choose another one")
        expires_min = int((wall + (offer.valid_s if valid_s is None else valid_s)) // 60) + 1
        made = InvitedSite(
            name=label,
            eids=former.eids if former is not None else self._next_eids(wall),
            identifier=self._draw(ID_OCTETS),
            secret=self._draw(SECRET_OCTETS),
            invited_at=wall,
            expires_at=60.0 * expires_min,
            key=former.key if former is not None else None,
            joined_at=former.joined_at if former is not None else None,
        )
        try:
            encoded(self._settings(made))
        except ValueError as error:
            raise InvitationRefused(f"{error}: list fewer overlay-prefixes in hub.conf") from None
        addresses = offer.addresses[:MAX_ADDRESSES]
        public_key = None if self._private_key is None else self._ciphers.public_key(self._private_key)
        return made, Invitation(addresses, made.identifier, expires_min, made.secret, public_key)

    def _next_eids(self, wall: float) -> tuple[EidPrefix, ...]:
        """EIDs for a new site. Raises PoolUsedUp, which names a site that no node joined in time, if there is one."""
        try:
            return next_eids(self.offer.pools, self._taken())
        except PoolUsedUp as used_up:
            unused = next((site.name for site in self._sites.values() if site.state(wall) == "expired"), None)
            if unused is None:
                raise
            raise PoolUsedUp(
                f"{used_up}. The invitation of {unused} expired unused: `lisphub revoke {unused}` frees its EIDs"
            ) from None

    def renumber(self, name: str) -> InvitedSite:
        """A site to store, with unused EIDs. Raises InvitationRefused, PoolUsedUp."""
        site = self._invited(name, "change its EIDs there, and reload")
        return dataclasses.replace(site, eids=next_eids(self.offer.pools, self._taken()))

    def revoke(self, name: str) -> InvitedSite:
        """The site to remove. Raises InvitationRefused."""
        return self._invited(name, "remove it there, and reload")

    def _invited(self, name: str, instead: str) -> InvitedSite:
        """The invited site of this name; `instead`: what to do with a configured one. Raises InvitationRefused."""
        label = label_of(name)
        if label is not None and (site := self._sites.get(label)) is not None:
            return site
        if self._is_configured(name.lower()):
            raise InvitationRefused(f"{name} is a site of hub.conf or sites.d: {instead}")
        raise InvitationRefused(f"no node was invited as {_shown(name)!r}; `lisphub sites` lists the invited nodes")

    def on_question(self, raw: bytes, source: IpAddress, wall: float, now: float) -> Answered:
        """The answer to a node that redeems an invitation. Raises MalformedMessage."""
        checked = self.check(raw, source, now)
        return checked if isinstance(checked, Answered) else self.answer(checked, wall)

    def check(self, raw: bytes, source: IpAddress, now: float) -> Message | Answered:
        """An authenticated request, or the answer to an unauthenticated one. Raises MalformedMessage.

        Only authenticated requests count for the limit of joins: others use up nothing of it.
        """
        question = Message.decode(raw)
        if question.verdict not in QUESTIONS or len(raw) < QUESTION_OCTETS or self._ciphers is None:
            raise MalformedMessage("rx_type", "a join message that asks nothing")
        place = question.identifier
        site = self._sites.get(self._by_id.get(place, ""))
        if site is None:
            sender = owner_of(source)
            if self._strangers.available_at(sender, now) > now or not self._all_strangers.take(now):
                raise MalformedMessage("rx_limit", "too many who name no invitation of ours")
            self._strangers.take(sender, now)
            return Answered(refuse(question, Verdict.UNKNOWN, None))
        if not self._trials.take(place, now):
            raise MalformedMessage("rx_limit", f"too many who try the invitation of {site.name}")
        if question.verdict is Verdict.SETTINGS:
            if site.key is None or not question.is_by(site.key):
                raise MalformedMessage("rx_auth", f"settings of {site.name} are asked for with another key")
        elif not question.is_by(site.secret):
            raise MalformedMessage("rx_auth", f"the invitation of {site.name} with another secret")
        if self._proved.available_at(place, now) > now or not self._all_proved.take(now):
            raise MalformedMessage("rx_limit", "too many who join")
        self._proved.take(place, now)
        return question

    def answer(self, question: Message, wall: float) -> Answered:
        """The answer to a request that `check` accepted. Raises MalformedMessage."""
        site = self._sites.get(self._by_id.get(question.identifier, ""))
        if site is None or self._ciphers is None:
            return Answered(refuse(question, Verdict.UNKNOWN, None))
        if question.verdict is Verdict.SETTINGS:
            return self._on_settings_question(question, site)
        secret = proved_secret(question, site.secret, self._private_key, self._ciphers)
        if secret is None:
            raise MalformedMessage("rx_auth", f"the invitation of {site.name} with a public key that gives no secret")
        digest = hashlib.sha256(question.raw).digest()
        if site.question is not None:
            is_same = digest == site.question and site.answer is not None
            return Answered(site.answer if is_same and site.answer else refuse(question, Verdict.USED, secret))
        if wall >= site.expires_at:
            return Answered(refuse(question, Verdict.EXPIRED, secret))
        accepted = accept(question, self._settings(site), secret, self._draw(KEY_OCTETS), self._ciphers)
        if accepted is None:
            raise MalformedMessage("rx_auth", "a public key that gives no secret")
        answer, key = accepted
        kept = dataclasses.replace(site, key=key, joined_at=wall, question=digest, answer=answer)
        return Answered(answer, kept, refuse(question, Verdict.NOT_NOW, secret))

    def _on_settings_question(self, question: Message, site: InvitedSite) -> Answered:
        """A joined node asks for its present settings. Raises MalformedMessage."""
        key, ciphers = site.key, self._ciphers
        if key is None or ciphers is None or not question.is_by(key):
            raise MalformedMessage("rx_auth", f"settings of {site.name} are asked for with another key")
        accepted = accept(question, self._settings(site), key, self._draw(KEY_OCTETS), ciphers)
        if accepted is None:
            raise MalformedMessage("rx_auth", "a public key that gives no secret")
        return Answered(accepted[0])

    def _former(self, name: str, wall: float, *, is_again: bool) -> InvitedSite | None:
        if self._is_configured(name):
            raise InvitationRefused(f"the name {name} belongs to a site of hub.conf or sites.d")
        former = self._sites.get(name)
        if former is None or is_again:
            return former
        state = former.state(wall)
        if state == "expired":
            return former
        raise InvitationRefused(
            f"{name} has {'joined' if state == 'joined' else 'an invitation'} already; another invitation for the same "
            f"site: lisphub invite --again {name}"
        )

    def _is_configured(self, name: str) -> bool:
        """True when a site of hub.conf or sites.d, or its host, has this name; `name` is in lower case."""
        return any(
            site.name.lower() == name or any(overlap(name, pattern) for pattern in site.names)
            for site in self._configured
        )

    def _taken(self) -> list[EidPrefix]:
        configured = [eid for site in self._configured for eid in site.eids]
        return [*configured, *(eid for site in self._sites.values() for eid in site.eids)]

    def _settings(self, site: InvitedSite) -> Settings:
        offer = self.offer
        prefixes = offer.overlay_prefixes or offer.pools
        return Settings(
            name=site.name,
            eids=tuple(map(str, site.eids)),
            overlay_prefixes=tuple(str(prefix.network) for prefix in prefixes),
            domain=offer.domain,
            lisp_sec="require" if offer.lisp_sec == "require" else "prefer",
        )
