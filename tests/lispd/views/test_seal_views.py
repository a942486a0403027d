"""What `lispctl key`, `paths` and `status` say of sealing: from before the first packet to a peer that has moved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from lispmob.api.backend import ApiError
from lispmob.control.node_config import NodeConfig
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.peer_keys import PinnedKey, fingerprint
from lispmob.datapath.model import SessionUse
from lispmob.lispd.views.seal_views import SealViews, mapping_of, seal_of, seals_by_locator, summary
from lispmob.node.node import Node
from lispmob.node.sealed_node import SealedNode
from lispmob.protocol.effect import SendControl
from tests.control.sealing.sealed_pair import ALICE_EID, ALICE_KEY, ALICE_RLOC, BOB_EID, BOB_KEY, BOB_RLOC
from tests.control.support import only, prefix
from tests.crypto.support import ciphers, needs_libcrypto
from tests.node.test_sealed_node import carry, made, static, two_nodes

pytestmark = needs_libcrypto

BOB_PUBLIC = KeyPair.of(BOB_KEY, ciphers()).public if ciphers() is not None else b""
ELSEWHERE = prefix("10.3.0.1/32")


class Shown:
    """The part of a daemon that is shown."""

    def __init__(self, node: Node, *, records: bool = False) -> None:
        self.node = node
        self.file = SimpleNamespace(log=SimpleNamespace(record=records))
        self.uses: list[SessionUse] = []
        self.engine = SimpleNamespace(sessions=SimpleNamespace(all=lambda: self.uses))
        self.at = 1.0
        self.views = SealViews(cast(Any, self))

    def now(self) -> float:
        return self.at

    def perform(self, effects: list[Any]) -> None:
        self.performed = effects


def shown(node: Node, **options: bool) -> Any:
    return cast(Any, Shown(node, **options))


def plain() -> Node:
    return Node(NodeConfig((ALICE_EID,)), new_nonce=iter(range(99)).__next__, jitter=lambda: 0.5)


def alice(**options: object) -> SealedNode:
    return made(ALICE_KEY, ALICE_EID, ALICE_RLOC, static_mappings=(static(BOB_EID, BOB_RLOC),), **options)


PINNED = {"pinned_keys": (PinnedKey(BOB_EID, BOB_PUBLIC),)}


@pytest.mark.parametrize(("records", "why"), [(True, "a recording, which has no keys"), (False, "no libcrypto")])
def test_a_daemon_that_cannot_seal_says_why_wherever_it_is_asked(records: bool, why: str) -> None:
    parts = shown(plain(), records=records)

    assert why in (parts.views.keys().why_not or "")
    assert why in seal_of(parts, BOB_EID).why
    assert why in summary(parts)
    assert (parts.views.keys().mode, seal_of(parts, BOB_EID).state, seals_by_locator(parts)) == ("off", "clear", {})
    with pytest.raises(ApiError, match=why):
        parts.views.rekey()


def test_what_is_switched_off_is_said_to_be_off() -> None:
    parts = shown(alice(seal="off"))

    assert summary(parts) == "nothing: security: seal is off"
    assert (seal_of(parts, BOB_EID).state, seal_of(parts, BOB_EID).why) == ("clear", "security: seal is off")
    with pytest.raises(ApiError, match="nothing is sealed here: security: seal is off"):
        parts.views.forget_key(BOB_EID)


@pytest.mark.parametrize(("seal", "state"), [("prefer", "clear"), ("require", "waiting")])
def test_before_a_first_session_packets_wait_only_where_sealing_is_required(seal: str, state: str) -> None:
    parts = shown(alice(seal=seal, **PINNED))
    seal_shown = seal_of(parts, BOB_EID)

    assert (seal_shown.state, seal_shown.grade, seal_shown.fingerprint) == (state, "pinned", fingerprint(BOB_PUBLIC))
    assert seal_shown.why == "no packet has wanted it yet; its key stands in lispd.conf"
    assert summary(parts) == f"0 of 1 peers with known keys ({seal})"
    assert seals_by_locator(parts) == {str(BOB_RLOC): f"{state} ({seal_shown.why})"}


@pytest.mark.parametrize(
    ("seal", "state", "why"),
    [("prefer", "clear", "its key is not known"), ("require", "waiting", "its key is not known, and security: seal")],
)
def test_without_a_key_it_says_that_there_is_none(seal: str, state: str, why: str) -> None:
    seal_shown = seal_of(shown(alice(seal=seal)), ELSEWHERE)

    assert (seal_shown.state, seal_shown.grade) == (state, "none")
    assert seal_shown.why.startswith(why)


def test_a_handshake_and_the_session_that_it_makes_are_shown() -> None:
    one, other = two_nodes()
    parts, number = shown(one), one.sealing.entries.peers[0].number
    (sent,) = only(one.on_seal_wanted(number, 1.0), SendControl)
    assert seal_of(parts, BOB_EID).why == "a handshake is under way; its key stands in lispd.conf"
    (answer,) = only(carry(sent, ALICE_RLOC, other, 1.1), SendControl)
    carry(answer, BOB_RLOC, one, 1.2)
    parts.at = 3.2
    parts.uses += [
        SessionUse(number, 1, "next", 5, 7, 2.0, None),
        SessionUse(number, 2, "current", 30, 20, 2.0, 0.1),
        SessionUse(number + 1, 3, "current", 999, 999, 2.0, 0.1),
    ]
    seal_shown = seal_of(parts, BOB_EID)

    assert (seal_shown.state, seal_shown.why) == ("sealed", "its key stands in lispd.conf")
    assert (seal_shown.packets_out, seal_shown.packets_in, seal_shown.age_s) == (35, 27, 2.0)
    assert seals_by_locator(parts) == {str(BOB_RLOC): "sealed"}
    assert summary(parts) == "1 of 1 peers with known keys (prefer)"
    assert parts.views.rekey() == 1
    assert [(known.prefix, known.seal.state) for known in parts.views.keys().peers] == [(str(BOB_EID), "sealed")]


def test_our_own_key_is_shown_with_what_to_compare_it_by() -> None:
    node = alice(**PINNED)
    keys = shown(node).views.keys()

    assert (keys.mode, keys.public_key, keys.waiting) == ("prefer", KeyPair.of(ALICE_KEY, ciphers()).public.hex(), [])
    assert keys.fingerprint == fingerprint(bytes.fromhex(keys.public_key))
    assert sorted(keys.libraries) == ["aes-128-gcm", "chacha20-poly1305"]


def test_what_is_not_kept_can_neither_be_forgotten_nor_accepted() -> None:
    parts = shown(alice(**PINNED))

    with pytest.raises(ApiError, match=r"no key of 10\.3\.0\.1/32 is kept"):
        parts.views.forget_key(ELSEWHERE)
    with pytest.raises(ApiError, match=r"no new key of 10\.3\.0\.1/32 waits"):
        parts.views.accept_key(ELSEWHERE)
    with pytest.raises(ApiError, match="no new key"):
        shown(plain()).views.accept_key(ELSEWHERE)


def behind_rtr(node: SealedNode) -> SealedNode:
    """The same, as if its uplinks sent through an RTR."""
    cast(Any, node).traversal = SimpleNamespace(plan=replace(node.plan, uplinks=(None,), asks_mapping_system=False))
    return node


@pytest.mark.parametrize("seal", ["off", "prefer"])
def test_where_a_dialect_cannot_work_it_is_said_and_nowhere_else(seal: str) -> None:
    why = "dialects do not work through an RTR"
    wanting = shown(behind_rtr(alice(dialects=("rfc8061",), seal=seal)))
    others = [shown(alice(dialects=("rfc8061",), seal=seal)), shown(behind_rtr(alice(seal=seal)))]

    assert (why in summary(wanting), why in seal_of(wanting, ELSEWHERE).why) == (True, True)
    assert [why in summary(parts) + seal_of(parts, ELSEWHERE).why for parts in others] == [False, False]


def test_an_eid_with_a_key_inside_of_a_wider_mapping_is_shown_as_what_leaves_for_it() -> None:
    wide = prefix("10.2.0.0/24")
    node = made(
        ALICE_KEY,
        ALICE_EID,
        ALICE_RLOC,
        static_mappings=(static(wide, BOB_RLOC),),
        pinned_keys=(PinnedKey(BOB_EID, BOB_PUBLIC),),
    )

    parts = shown(node)

    assert seal_of(parts, BOB_EID).fingerprint == fingerprint(BOB_PUBLIC)
    assert (seal_of(parts, wide).state, seal_of(parts, wide).fingerprint) == ("clear", None)
    assert [mapping_of(node, at) for at in (BOB_EID, wide, ELSEWHERE)] == [wide, wide, ELSEWHERE]
    assert mapping_of(plain(), BOB_EID) == BOB_EID
