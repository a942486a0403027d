"""Forged, wrong or incomplete messages are counted, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import NattEffect, SendFromDataPort
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.traversal import Traversal
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import Count, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import NatTraversal
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.internet.network import ip
from tests.natt.world import EID, KEY, MAP_SERVER, RTR, XTR_ID

INSIDE, OUTSIDE, STRANGER = ip("192.168.1.2"), ip("203.0.113.200"), ip("203.0.113.66")
HERE: Final = LocalLocator(INSIDE, 2, "eth0")
NAT: Final = NatTraversal(4342, 20001, OUTSIDE, MAP_SERVER, None, (RTR,))


def traversal(*, direct: bool = False) -> tuple[Traversal, InfoRequest]:
    """A node that has just sent an Info-Request, and that request."""
    config = NattConfig((EID,), (MapServerPeer(MAP_SERVER, KEY),), xtr_id=XTR_ID, direct=direct)
    one = Traversal(config, new_nonce=count(7).__next__, next_nonce=count(1000).__next__)
    (asked,) = (effect for effect in one.on_locators([HERE], 0.0) if isinstance(effect, SendControl))
    return one, InfoRequest.decode(asked.payload)


def answer(request: InfoRequest, **changes: object) -> InfoReply:
    reply = InfoReply(request.nonce, request.eid, request.mask_len, NAT, ttl_min=60)
    return replace(reply, **changes)


def told(one: Traversal, payload: bytes) -> list[NattEffect] | None:
    return one.on_datagram(Datagram(payload, MAP_SERVER, 4342, INSIDE), 0.02)


def counted(effects: list[NattEffect] | None) -> list[str]:
    return [effect.name for effect in effects or [] if isinstance(effect, Count) and effect.name[:3] != "tx_"]


def registering(*, direct: bool = False) -> tuple[Traversal, MapRegister]:
    """A node behind a NAT that waits for its Data-Map-Notify, and its register."""
    one, request = traversal(direct=direct)
    effects = told(one, sign(answer(request), KEY)) or []
    (sent,) = [effect for effect in effects if isinstance(effect, SendFromDataPort)]
    return one, MapRegister.decode(EncapsulatedControl.decode(sent.payload).message)


def data(payload: bytes, **changes: object) -> DataControl:
    right = DataControl(payload, MAP_SERVER, 4342, INSIDE, 4342, RTR, 4342, INSIDE)
    return replace(right, **changes)


def notify(register: MapRegister, key: Key = KEY, **changes: object) -> bytes:
    message = MapNotify(register.nonce, register.records, xtr_id=XTR_ID, site_id=bytes(8))
    return sign(replace(message, **changes), key)


def test_a_right_answer_has_the_node_register_through_the_rtr() -> None:
    one, register = registering()

    one.on_data_control(data(notify(register)), 0.05)

    assert one.machines[0].state.value == "relayed"


@pytest.mark.parametrize(
    ("spoil", "counter"),
    [
        (lambda reply: sign(replace(reply, nonce=99), KEY), "rx_nonce"),
        (lambda reply: sign(reply, Key(b"another key")), "rx_auth"),
        (lambda reply: reply.encode(), "rx_auth"),
        (lambda reply: sign(replace(reply, eid=ip("172.30.9.9")), KEY), "rx_policy"),
        (lambda reply: sign(replace(reply, mask_len=31), KEY), "rx_policy"),
        (lambda reply: sign(reply, KEY)[:-9], "rx_lcaf"),
        (lambda reply: sign(reply, KEY)[:20], "rx_truncated"),
    ],
)
def test_an_info_reply_that_is_not_the_answer_changes_nothing(
    spoil: Callable[[InfoReply], bytes], counter: str
) -> None:
    one, request = traversal()

    effects = told(one, spoil(answer(request)))

    assert counted(effects) == [counter]
    assert one.machines[0].state.value == "probing"


def test_an_answer_counts_once() -> None:
    one, request = traversal()
    raw = sign(answer(request), KEY)
    told(one, raw)

    assert counted(told(one, raw)) == ["rx_nonce"]


@pytest.mark.parametrize("rtr", ["0.0.0.0", "224.0.0.1", "10.0.0.1", "192.168.1.2", "172.30.1.1", "2001:db8::1"])
def test_an_rtr_that_cannot_be_one_is_left_out(rtr: str) -> None:
    one, request = traversal()

    told(one, sign(answer(request, nat=replace(NAT, rtr_rlocs=(ip(rtr),))), KEY))

    assert one.machines[0].state.value == "stranded"


def test_without_the_global_address_a_private_one_still_counts_as_translated() -> None:
    one, request = traversal()

    told(one, sign(answer(request, nat=replace(NAT, global_etr_rloc=None, etr_port=0)), KEY))

    assert one.machines[0].rtrs == (RTR,)


def test_the_life_of_an_rtr_list_is_kept_within_bounds() -> None:
    for ttl_min, seconds in ((0, 60.0), (5, 300.0), (0xFFFFFFFF, 86400.0)):
        one, request = traversal()

        told(one, sign(answer(request, ttl_min=ttl_min), KEY))

        seen = one.machines[0].seen
        assert seen is not None
        assert seen.ttl_s == seconds


@pytest.mark.parametrize(
    "wrong",
    [
        {"outer_source": STRANGER},
        {"outer_source_port": 4341},
        {"source": STRANGER},
        {"source_port": 4000},
        {"destination": STRANGER},
        {"destination_port": 4000},
        {"outer_destination": STRANGER},
    ],
)
def test_a_data_map_notify_with_a_wrong_address_is_refused(wrong: dict[str, object]) -> None:
    one, register = registering()

    effects = one.on_data_control(data(notify(register), **wrong), 0.05)

    assert counted(effects) == ["data_inner"]
    assert one.machines[0].state.value == "registering"


@pytest.mark.parametrize(
    ("changes", "key", "counter"),
    [
        ({"nonce": 1}, KEY, "rx_nonce"),
        ({}, Key(b"another key"), "rx_auth"),
        ({"xtr_id": bytes(15) + b"x"}, KEY, "rx_policy"),
    ],
)
def test_a_forged_data_map_notify_is_refused(changes: dict[str, object], key: Key, counter: str) -> None:
    one, register = registering()

    effects = one.on_data_control(data(notify(register, key, **changes)), 0.05)

    assert counted(effects) == [counter]
    assert one.machines[0].state.value == "registering"


def test_a_data_map_notify_for_another_eid_or_with_ttl_0_confirms_nothing() -> None:
    for change in ({"eid": ip("172.30.9.9")}, {"ttl_min": 0}):
        one, register = registering()
        records = (replace(register.records[0], **change),)

        effects = one.on_data_control(data(notify(register, records=records)), 0.05)

        assert counted(effects) == ["rx_policy"]


def test_a_map_notify_that_came_past_the_rtr_does_not_count() -> None:
    one, register = registering()

    assert counted(told(one, notify(register))) == ["rx_policy"]
    assert one.machines[0].state.value == "registering"


def test_a_poke_of_the_rtr_causes_a_register_but_not_many() -> None:
    one, register = registering()
    one.on_data_control(data(notify(register)), 0.05)
    poke = MapRequest(5, None, (RTR,), (EidRecord.of(EidPrefix.parse("172.30.1.1/32")),), is_smr=True).encode()

    answers = [one.on_data_control(data(poke, source=RTR), 1.0 + n / 1000) or [] for n in range(50)]

    sent = [effect for effects in answers for effect in effects if isinstance(effect, SendFromDataPort)]
    assert 1 <= len(sent) <= 2


def test_a_poke_of_a_stranger_or_for_another_eid_causes_nothing() -> None:
    one, register = registering()
    one.on_data_control(data(notify(register)), 0.05)
    ours = MapRequest(5, None, (RTR,), (EidRecord.of(EID),), is_smr=True).encode()
    other = MapRequest(5, None, (RTR,), (EidRecord.of(EidPrefix.parse("172.30.9.9/32")),), is_smr=True).encode()

    assert counted(one.on_data_control(data(ours, outer_source=STRANGER), 1.0)) == ["data_inner"]
    assert counted(one.on_data_control(data(other), 1.0)) == ["rx_policy"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": ip("2001:db8::1")},
        {"outer_source_port": 0},
        {
            "payload": MapRequest(
                5, None, (RTR,), (EidRecord.of(EidPrefix.parse("172.30.9.9/32")),), is_probe=True
            ).encode()
        },
    ],
)
def test_a_probe_without_a_possible_answer_is_counted(wrong: dict[str, object]) -> None:
    one, register = registering(direct=True)
    one.on_data_control(data(notify(register)), 0.05)
    good = MapRequest(5, None, (RTR,), (EidRecord.of(EID),), is_probe=True).encode()
    probe = data(good, source=STRANGER, source_port=4341, outer_source=STRANGER, outer_source_port=4341)

    assert counted(one.on_data_control(replace(probe, **wrong), 1.0)) == ["rx_policy"]
    (sent,) = [effect for effect in one.on_data_control(probe, 1.0) or [] if isinstance(effect, SendFromDataPort)]
    assert (sent.destination, sent.port) == (STRANGER, 4341)


def test_many_probes_are_answered_in_part_and_without_the_short_way_none_is() -> None:
    good = MapRequest(5, None, (RTR,), (EidRecord.of(EID),), is_probe=True).encode()
    for direct in (True, False):
        one, register = registering(direct=direct)
        one.on_data_control(data(notify(register)), 0.05)
        probe = data(good, source=STRANGER, source_port=4341, outer_source=STRANGER, outer_source_port=4341)

        effects = [effect for n in range(100) for effect in one.on_data_control(probe, 1.0 + n / 1000) or []]

        answered = [effect for effect in effects if isinstance(effect, SendFromDataPort)]
        assert 0 < len(answered) < 10 if direct else answered == []
        assert len(counted(effects)) >= 90


@given(payload=st.binary(max_size=120), at=st.sampled_from([RTR, STRANGER, MAP_SERVER]))
def test_any_octets_are_counted_or_left_to_the_node(payload: bytes, at: object) -> None:
    one, register = registering()
    one.on_data_control(data(payload, outer_source=at), 0.05)
    told(one, payload)

    assert one.machines[0].state.value == "registering"
    one.on_data_control(data(notify(register)), 0.06)
    assert one.machines[0].state.value == "relayed"
