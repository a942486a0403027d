"""Map-Version Numbers in sealed packets between two engines: what is sent, what is reported, what is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lispmob.datapath import sealing
from lispmob.wire.data_header import DataHeader
from tests.datapath.netlab import EID_A4, EID_B4, Lab, lab
from tests.datapath.seal.sealed import HEADER_OCTETS, Session
from tests.datapath.seal.test_sealed_netns import data_of, grown, keys_of, numbers, received, send, udp_packet, use_keys

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto"),
]

COUNTED = ("data_version", "data_version_old", "data_version_news", "data_policy", "data_packets")


@pytest.fixture(scope="module")
def versioned() -> Iterator[Lab]:
    with lab() as made:
        for side, engine, eid in (("a", made.a, EID_A4), ("b", made.b, EID_B4)):
            engine("uplinks", uplinks=[link.uplink(side) for link in made.links])
            engine("udp_open", name="x", address=eid, port=5000)
        yield made


def use_versions(both: Lab, a: int, b: int, a_of_b: int, b_of_a: int) -> None:
    """Set each side's own number, and the number that it knows of the other side."""
    link = both.links[0]
    use_keys(both)
    both.a("use_map_version", version=a)
    both.b("use_map_version", version=b)
    both.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)], peer=1, map_version=a_of_b)
    both.b("install", prefix=f"{EID_A4}/32", locators=[link.rloc("a", 4)], peer=1, map_version=b_of_a)
    for engine in (both.a, both.b):
        engine("drain")


def told(both: Lab) -> list[str]:
    return [word.partition("(")[0] for word in both.b("drain") if "Peer" in word.partition("(")[0]]


def headers(both: Lab, first: int) -> list[DataHeader]:
    """The LISP headers of the packets of three datagrams from a to b."""
    both.b("sniff", name="tap", interface="up0")
    send(both, 3, first, pause_s=0.01)
    return [DataHeader.decode(one[:8]) for one in data_of(both.b("sniffed", name="tap", count=9, timeout_s=0.3))]


def inject(both: Lab, versions: tuple[int, int]) -> None:
    """Send a packet that a peer seals with these numbers in its header."""
    kept = Session(keys_of("a", next(numbers) - 1))
    number = next(numbers)
    header = DataHeader(map_versions=versions, key_number=1).encode()
    assert len(header) == HEADER_OCTETS
    link, packet = both.links[0], kept.seal((1 << 27) + number, udp_packet(EID_A4, EID_B4), header=header)
    both.a("inject", payloads=[packet.hex()], source=link.rloc("a", 4), to=link.rloc("b", 4))


@pytest.mark.parametrize(
    ("own", "of_peer", "said"), [(7, 9, (7, 9)), (4095, 1, (4095, 1)), (0, 9, None), (7, 0, None), (0, 0, None)]
)
def test_a_sealed_packet_says_both_numbers_where_both_mappings_have_one(
    versioned: Lab, own: int, of_peer: int, said: tuple[int, int] | None
) -> None:
    use_versions(versioned, own, of_peer, of_peer, own)

    assert headers(versioned, 0) == [DataHeader(map_versions=said, key_number=1)] * 3


def test_a_packet_in_clear_says_none(versioned: Lab) -> None:
    use_versions(versioned, 7, 9, 9, 7)
    link = versioned.links[0]
    versioned.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)], map_version=9)

    assert headers(versioned, 0) == [DataHeader()] * 3


def test_numbers_that_agree_are_no_news(versioned: Lab) -> None:
    use_versions(versioned, 7, 9, 9, 7)
    before = versioned.b("counters")

    assert send(versioned, 10, 0) == list(range(10))
    assert told(versioned) == []
    assert grown(versioned.b, before, *COUNTED) == {"data_version": 10, "data_packets": 10}


@pytest.mark.parametrize(("b", "a_of_b"), [(9, 8), (1, 4095), (2100, 60)])
def test_who_sends_by_an_old_mapping_of_ours_is_noticed_and_loses_nothing(versioned: Lab, b: int, a_of_b: int) -> None:
    use_versions(versioned, 7, b, a_of_b, 7)
    before = versioned.b("counters")

    assert send(versioned, 10, 0) == list(range(10))
    assert grown(versioned.b, before, "data_version_old", "data_policy") == {"data_version_old": 10}


@pytest.mark.parametrize(("a", "b_of_a"), [(8, 7), (1, 4095), (2100, 60)])
def test_a_peer_whose_mapping_is_newer_than_ours_is_noticed_until_we_know_it(
    versioned: Lab, a: int, b_of_a: int
) -> None:
    use_versions(versioned, a, 9, 9, b_of_a)
    before = versioned.b("counters")
    link = versioned.links[0]

    assert send(versioned, 10, 0) == list(range(10))
    versioned.b("install", prefix=f"{EID_A4}/32", locators=[link.rloc("a", 4)], peer=1, map_version=a)
    assert send(versioned, 10, 10) == list(range(10, 20))

    assert grown(versioned.b, before, *COUNTED) == {"data_version": 20, "data_version_news": 10, "data_packets": 20}


def test_what_is_noticed_is_reported_once_a_second_of_a_peer(versioned: Lab) -> None:
    use_versions(versioned, 8, 9, 8, 7)
    time.sleep(1.05)

    assert send(versioned, 10, 0) == list(range(10))
    first = told(versioned)
    assert send(versioned, 10, 10) == list(range(10, 20))

    assert (sorted(first), told(versioned)) == (["PeerAhead", "PeerBehind"], [])


def test_a_mapping_that_turns_out_to_be_older_again_is_noticed_again(versioned: Lab) -> None:
    use_versions(versioned, 8, 9, 9, 8)
    assert send(versioned, 3, 0) == [0, 1, 2]
    link = versioned.links[0]
    before = versioned.b("counters")

    versioned.b("install", prefix=f"{EID_A4}/32", locators=[link.rloc("a", 4)], peer=1, map_version=7)
    assert send(versioned, 3, 3) == [3, 4, 5]

    assert grown(versioned.b, before, "data_version_news") == {"data_version_news": 3}


@pytest.mark.parametrize("versions", [(7, 0), (7, 10), (0, 2057), (7, 2000)])
def test_a_number_that_our_mapping_never_had_loses_the_packet(versioned: Lab, versions: tuple[int, int]) -> None:
    use_versions(versioned, 7, 9, 9, 7)
    before = versioned.b("counters")

    inject(versioned, versions)
    versioned.b("wait_for_counter", name="data_policy", value=before.get("data_policy", 0) + 1)

    assert grown(versioned.b, before, *COUNTED) == {"data_policy": 1}
    assert told(versioned) == []


@pytest.mark.parametrize("versions", [(6, 9), (0, 9), (4000, 9)])
def test_an_old_number_of_the_peers_own_or_none_is_no_news(versioned: Lab, versions: tuple[int, int]) -> None:
    use_versions(versioned, 7, 9, 9, 7)
    before = versioned.b("counters")

    inject(versioned, versions)
    versioned.b("wait_for_counter", name="data_packets", value=before.get("data_packets", 0) + 1)

    assert grown(versioned.b, before, *COUNTED) == {"data_version": 1, "data_packets": 1}
    assert told(versioned) == []


def test_where_our_mappings_have_no_number_those_of_others_are_not_heeded(versioned: Lab) -> None:
    use_versions(versioned, 7, 0, 9, 7)
    before = versioned.b("counters")

    inject(versioned, (8, 0))
    versioned.b("wait_for_counter", name="data_packets", value=before.get("data_packets", 0) + 1)

    assert grown(versioned.b, before, *COUNTED) == {"data_version": 1, "data_packets": 1}
    assert told(versioned) == []
    assert received(versioned.b, "x") != []
