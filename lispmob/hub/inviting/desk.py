"""Makes, redeems and revokes invitations: connects the machine, its file, and the hub (adapter).

One change at a time: it is written before the hub uses it, and the hub uses it before it informs a client.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

from lispmob.crypto.key_wrap import KeyWrapMissingError
from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.errors import LispError, MalformedMessage
from lispmob.hub.asking import VALID_S
from lispmob.hub.inviting.invitations import KEY_OCTETS, Answered, InvitationRefused, Invitations, Offer
from lispmob.hub.inviting.invited import InvitedSite
from lispmob.hub.inviting.site_store import SiteStore
from lispmob.hub.map_server.site import Site
from lispmob.joining.exchange import Message
from lispmob.wire.address import IpAddress

WAITING_MAX: Final = 64  # ours: authenticated requests that wait for the disk

log = logging.getLogger(__name__)

Reply = dict[str, Any]


class InvitationDesk:
    """`on_sites` makes the hub use other sites; `tell` gets events."""

    def __init__(
        self,
        path: Path | None,
        offer: Offer,
        on_sites: Callable[[], Awaitable[None]],
        tell: Callable[[str, dict[str, object]], None],
    ) -> None:
        try:
            self._ciphers: NoiseCiphers | None = NoiseCiphers()
        except KeyWrapMissingError:
            self._ciphers = None
        self._store = SiteStore(path) if path is not None else None
        self._invitations = Invitations(offer, self._ciphers, secrets.token_bytes)
        self._on_sites = on_sites
        self._tell = tell
        self._has_key = False
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.counters: Counter[str] = Counter()
        self.problem: str | None = None if path is not None else "hub.conf has 'state-file: none', and no 'sites-file'"

    def open(self, configured: Iterable[Site]) -> None:
        """Read the invited sites; an unusable file is reported, and the hub works without them."""
        self._invitations.on_configured(self._invitations.offer, configured)
        if self._store is None:
            return
        try:
            for site in self._store.open():
                self._invitations.keep(site)
            if (key := self._store.known_hub_key()) is not None:
                self._invitations.use_key(key)
                self._has_key = True
        except LispError as error:
            self.problem = str(error)
            log.error("the invited nodes cannot be read: %s", error)
        self._complain_of_displaced()

    def read_again(self, configured: Iterable[Site]) -> None:
        """Another process of this hub has changed the invited sites."""
        if self._store is not None:
            self._store.close()
        self._invitations = Invitations(self._invitations.offer, self._ciphers, secrets.token_bytes)
        self.open(configured)

    async def close(self) -> None:
        """Finish what is in progress, and close the file."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._store is not None:
            self._store.close()

    def on_configured(self, offer: Offer, sites: Iterable[Site]) -> None:
        """The configuration was reloaded."""
        self._invitations.on_configured(offer, sites)
        self._complain_of_displaced()

    def sites(self) -> tuple[Site, ...]:
        """The invited sites."""
        return self._invitations.sites()

    def on_question(self, raw: bytes, source: IpAddress, answer: Callable[[bytes], object]) -> None:
        """A node redeems an invitation; `answer` sends to it, after the result is written.

        An unauthenticated request is answered at once: it takes no place in the queue for the disk.
        """
        loop = asyncio.get_running_loop()
        try:
            checked = self._invitations.check(raw, source, loop.time())
        except MalformedMessage as error:
            self._refuse(source, error)
            return
        if isinstance(checked, Answered):
            answer(checked.payload)
            return
        if len(self._tasks) >= WAITING_MAX:
            self.counters["rx_limit"] += 1
            return
        task = loop.create_task(self._redeem(checked, source, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, source: IpAddress, error: MalformedMessage) -> None:
        self.counters[error.counter] += 1
        log.debug("join refused source=%s why=%s", source, error.why)

    async def _redeem(self, question: Message, source: IpAddress, answer: Callable[[bytes], object]) -> None:
        async with self._changing:
            try:
                answered = self._invitations.answer(question, time.time())
            except MalformedMessage as error:
                self._refuse(source, error)
                return
            if answered.kept is not None:
                try:
                    await self._keep(answered.kept)
                except LispError as error:
                    log.error("no node can join: %s", error)
                    answer(answered.otherwise)
                    return
                self.counters["joined"] += 1
                self._tell("joined", {"site": answered.kept.name, "source": str(source)})
            answer(answered.payload)

    async def invite(self, asked: Reply) -> Reply:
        """For the control socket: a new invitation. Raises LispError."""
        name, valid_s = asked.get("name"), asked.get("valid_s")
        if not isinstance(name, str):
            raise InvitationRefused("a name is needed")
        if valid_s is not None and not (isinstance(valid_s, int | float) and VALID_S[0] <= valid_s <= VALID_S[1]):
            raise InvitationRefused("an invitation can be valid for one minute to one year")
        async with self._changing:
            await self._need_hub_key()
            site, invitation = self._invitations.invite(
                name, time.time(), is_again=asked.get("is_again") is True, valid_s=valid_s
            )
            await self._keep(site)
        self._tell("invited", {"site": site.name, "eids": list(map(str, site.eids))})
        return {
            "name": site.name,
            "eids": list(map(str, site.eids)),
            "hub": list(map(str, invitation.addresses)),
            "expires_at": invitation.expires_at,
            "line": invitation.line(),
        }

    async def renumber(self, asked: Reply) -> Reply:
        """For the control socket: other EIDs for a site, which its node adopts automatically. Raises LispError."""
        async with self._changing:
            site = self._invitations.renumber(str(asked.get("name")))
            await self._keep(site)
        self._tell("renumbered", {"site": site.name, "eids": list(map(str, site.eids))})
        return {"name": site.name, "eids": list(map(str, site.eids))}

    async def revoke(self, asked: Reply) -> Reply:
        """For the control socket: remove the site, and inform those who asked for it. Raises LispError."""
        async with self._changing:
            site = self._invitations.revoke(str(asked.get("name")))
            assert self._store is not None, "who was invited is in it"
            await asyncio.to_thread(self._store.remove, site.name)
            self._invitations.forget(site.name)
            await self._on_sites()
        self._tell("revoked", {"site": site.name, "eids": list(map(str, site.eids))})
        return {"name": site.name, "eids": list(map(str, site.eids)), "had_joined": site.key is not None}

    def states(self, wall: float) -> dict[str, Reply]:
        """The state of each invited site, by name."""
        return {
            site.name: {
                "state": site.state(wall),
                "invited_at": site.invited_at,
                "expires_at": site.expires_at,
                "joined_at": site.joined_at,
            }
            for site in self._invitations
        }

    async def _keep(self, site: InvitedSite) -> None:
        store = self._need_store()
        await asyncio.to_thread(store.put, site)
        self._invitations.keep(site)
        await self._on_sites()

    async def _need_hub_key(self) -> None:
        """The hub's key in invitations: drawn for the first one, and written before it is used."""
        store = self._need_store()
        if not self._has_key:
            self._invitations.use_key(await asyncio.to_thread(store.hub_key, secrets.token_bytes(KEY_OCTETS)))
            self._has_key = True

    def _need_store(self) -> SiteStore:
        if self._store is None or self.problem is not None:
            raise InvitationRefused(f"this hub cannot invite: {self.problem}")
        return self._store

    def _complain_of_displaced(self) -> None:
        for name in self._invitations.displaced():
            log.warning("site %s was invited, but has the name or an EID of a site in hub.conf: ignored", name)
