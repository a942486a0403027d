"""lispers.net's dialect proves nothing: what a node accepts nevertheless, and what it counts and ignores."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import NattEffect, SendFromDataPort
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.traversal import Traversal
from lispmob.protocol.effect import Count
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.auth import sign
from lispmob.wire.data_header import DATA_HEADER_OCTETS
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import AfiList, NatTraversal
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.internet.network import ip
from tests.natt.world import EID, KEY, MAP_SERVER, RTR, RTR2

INSIDE, OUTSIDE, STRANGER = ip("192.168.1.2"), ip("203.0.113.200"), ip("203.0.113.66")
NAT = NatTraversal(0, 20001, OUTSIDE, None, DistinguishedName(b"laptop-eth0"), (RTR,))


def asking() -> tuple[Traversal, InfoRequest]:
    """A node that has just sent an Info-Request, and that request."""
    config = NattConfig((EID,), (MapServerPeer(MAP_SERVER, KEY),), mode="lispers", rtrs=(RTR,), host_name=b"laptop")
    one = Traversal(config, new_nonce=count(7).__next__, next_nonce=count(1000).__next__)
    effects = one.on_locators([LocalLocator(INSIDE, 2, "eth0")], 0.0)
    (asked,) = (effect for effect in effects if isinstance(effect, SendFromDataPort))
    return one, InfoRequest.decode(asked.payload)


def arrival(payload: bytes, source: IpAddress = MAP_SERVER, port: int = 4342) -> DataControl:
    return DataControl(payload, source, port, INSIDE, port, source, port, INSIDE)


def told(one: Traversal, payload: bytes, source: IpAddress = MAP_SERVER, now: float = 0.02) -> list[NattEffect]:
    return one.on_data_control(arrival(payload, source), now) or []


def answer(request: InfoRequest, nat: NatTraversal = NAT, **changes: object) -> InfoReply:
    return replace(InfoReply(request.nonce, None, 0, nat), **changes)


def counted(effects: list[NattEffect]) -> list[str]:
    return [effect.name for effect in effects if isinstance(effect, Count) and effect.name[:3] != "tx_"]


def relayed() -> tuple[Traversal, InfoRequest]:
    """A node behind a NAT, and the request that its RTR has just received."""
    one, request = asking()
    effects = told(one, answer(request).encode())
    (sent,) = (effect for effect in effects if isinstance(effect, SendFromDataPort))
    return one, InfoRequest.decode(sent.payload[DATA_HEADER_OCTETS:])


def test_a_right_answer_has_the_node_keep_a_way_open_to_the_rtr() -> None:
    one, _ = relayed()

    assert (one.machines[0].state.value, one.machines[0].rtrs) == ("relayed", (RTR,))


@pytest.mark.parametrize(
    ("spoil", "counter"),
    [
        (lambda reply: replace(reply, nonce=99).encode(), "rx_nonce"),
        (lambda reply: replace(reply, eid=ip("172.30.1.1"), mask_len=32).encode(), "rx_policy"),
        (lambda reply: replace(reply, mask_len=1).encode(), "rx_policy"),
        (lambda reply: sign(replace(reply, eid=EID.address, mask_len=32), KEY), "rx_policy"),
        (lambda reply: reply.encode()[:-9], "rx_lcaf"),
        (lambda reply: reply.encode()[:24], "rx_truncated"),
        (lambda reply: replace(reply, nat=None).encode(), "rx_lcaf"),
    ],
)
def test_an_info_reply_that_is_not_the_answer_changes_nothing(
    spoil: Callable[[InfoReply], bytes], counter: str
) -> None:
    one, request = asking()

    effects = told(one, spoil(answer(request)))

    assert counted(effects) == [counter]
    assert one.machines[0].state.value == "probing"


@pytest.mark.parametrize("rtrs", [(), (RTR2,), (STRANGER, RTR2), (INSIDE,), (None,)])
def test_rtrs_that_are_not_in_the_configuration_are_not_used(rtrs: tuple[IpAddress, ...]) -> None:
    one, request = asking()

    told(one, answer(request, replace(NAT, rtr_rlocs=rtrs)).encode())

    assert one.machines[0].rtrs == ()
    assert one.machines[0].state.value == "stranded"


def test_of_a_mixed_list_only_the_configured_ones_are_used() -> None:
    one, request = asking()

    told(one, answer(request, replace(NAT, rtr_rlocs=(STRANGER, RTR, RTR2))).encode())

    assert one.machines[0].rtrs == (RTR,)


def test_a_map_server_that_does_not_say_what_it_sees_is_made_up_for_by_the_rtr() -> None:
    one, request = asking()
    effects = told(one, answer(request, replace(NAT, global_etr_rloc=None, etr_port=0)).encode())
    (sent,) = (effect for effect in effects if isinstance(effect, SendFromDataPort))
    name = [one_.address.addresses[1] for one_ in one.plan.record_locators if isinstance(one_.address, AfiList)]
    assert DistinguishedName(b"laptop-eth0") in name

    told(one, answer(InfoRequest.decode(sent.payload[DATA_HEADER_OCTETS:])).encode(), RTR)

    assert AfiList((OUTSIDE, DistinguishedName(b"laptop-eth0@tp-20001"))) in [
        locator.address for locator in one.plan.record_locators
    ]


def test_an_answer_of_another_host_to_a_question_to_the_rtr_is_refused() -> None:
    one, punched = relayed()

    assert counted(told(one, answer(punched).encode(), STRANGER, 0.05)) == ["rx_nonce"]
    assert one.machines[0].punches.rtt_s(RTR) is None

    assert counted(told(one, answer(punched).encode(), RTR, 0.05)) == []
    assert one.machines[0].punches.rtt_s(RTR) == pytest.approx(0.03)


def test_a_poke_of_the_rtr_has_the_binding_opened_again_but_not_often() -> None:
    one, _ = relayed()
    poke = MapRequest(5, None, (RTR,), (EidRecord.of(EID),), is_smr=True).encode()

    sent = [effect for n in range(50) for effect in told(one, poke, RTR, 1.0 + n / 1000)]

    assert (
        1 <= len([effect for effect in sent if isinstance(effect, SendFromDataPort) and effect.destination == RTR]) <= 2
    )
    assert counted(told(one, poke, STRANGER, 2.0)) == ["data_inner"]


@given(payload=st.binary(max_size=120), at=st.sampled_from([RTR, STRANGER, MAP_SERVER]))
def test_any_octets_leave_the_way_as_it_is(payload: bytes, at: IpAddress) -> None:
    one, punched = relayed()
    told(one, payload, at, 0.03)

    assert one.machines[0].rtrs == (RTR,)
    assert counted(told(one, answer(punched).encode(), RTR, 0.05)) == []
