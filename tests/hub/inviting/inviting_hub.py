"""A hub's invitations with a clock that moves at each question, and the nodes that redeem them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import count

import pytest

from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.hub.inviting.invitations import Answered, Invitations, Offer
from lispmob.hub.inviting.invited import InvitedSite
from lispmob.joining.exchange import Exchange, JoinRefused, Redemption, Verdict
from lispmob.joining.invitation import Invitation
from tests.hub.exchange import eid

CIPHERS = NoiseCiphers()
NODE = ip_address("192.0.2.5")
OFFER = Offer(
    addresses=(ip_address("198.51.100.1"),),
    pools=(eid("10.99.0.0/29"), eid("fd00:99::/64")),
    domain="home.example",
)
DAY = 86400.0


def octets() -> Iterator[bytes]:
    for number in count(1):
        yield number.to_bytes(32)


class Hub:
    """The machine, and a clock for each question."""

    def __init__(self, offer: Offer = OFFER, private_key: bytes | None = b"h" * 32) -> None:
        numbers = octets()
        self.invitations = Invitations(offer, CIPHERS, lambda size: next(numbers)[-size:], private_key)
        self._now = count(0.0, 10.0)

    def invite(self, name: str, wall: float = 0.0, **more: bool) -> tuple[InvitedSite, Invitation]:
        made, invitation = self.invitations.invite(name, wall, **more)
        self.invitations.keep(made)
        return made, invitation

    def ask(self, raw: bytes, wall: float = 0.0) -> Answered:
        answered = self.invitations.on_question(raw, NODE, wall, next(self._now))
        if answered.kept is not None:
            self.invitations.keep(answered.kept)
        return answered


def node(invitation: Invitation, private_key: bytes = b"n" * 32) -> Redemption:
    return Redemption(invitation, private_key, CIPHERS)


def verdict_of(redemption: Exchange, answered: Answered) -> Verdict:
    with pytest.raises(JoinRefused) as refused:
        redemption.on_answer(answered.payload)
    return refused.value.verdict
