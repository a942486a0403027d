"""Two engines that encrypt as RFC 8061 and lispers.net do: what is on the link, what arrives, and what is dropped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lispmob.datapath import sealing
from lispmob.datapath.dialects import DialectName
from tests.datapath.netlab import EID_A4, EID_B4, Lab, lab
from tests.datapath.seal.test_sealed_netns import data_of, grown, send, use_keys

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto"),
]

NAMES: tuple[DialectName, ...] = ("rfc8061", "lispers-net-2", "lispers-net-5")


@pytest.fixture(scope="module")
def keyed() -> Iterator[Lab]:
    with lab() as made:
        for side, engine, eid in (("a", made.a, EID_A4), ("b", made.b, EID_B4)):
            engine("uplinks", uplinks=[link.uplink(side) for link in made.links])
            engine("udp_open", name="x", address=eid, port=5000)
        link = made.links[0]
        made.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)])
        made.b("install", prefix=f"{EID_A4}/32", locators=[link.rloc("a", 4)])
        yield made


def use(both: Lab, name: DialectName, key: str = "0f", key_id: int = 1) -> None:
    """Install keys for both directions."""
    a, b = both.links[0].rloc("a", 4), both.links[0].rloc("b", 4)
    forth, back = key * 16, key[::-1] * 16
    both.b("dialect", address=a, dialect=name, seals=False, key=forth, key_id=key_id)
    both.a("dialect", address=b, dialect=name, seals=False, key=back, key_id=key_id)
    both.a("dialect", address=b, dialect=name, seals=True, key=forth, key_id=key_id, start=(1 << 64) - 5)
    both.b("dialect", address=a, dialect=name, seals=True, key=back, key_id=key_id, start=7)


@pytest.mark.parametrize("name", NAMES)
def test_what_arrives_is_what_was_sent_and_no_octet_of_it_is_on_the_line(keyed: Lab, name: DialectName) -> None:
    use(keyed, name)
    before = keyed.b("counters")
    keyed.b("sniff", name="tap", interface="up0")

    assert send(keyed, 20, 0, sizes=[64, 65, 300, 1300]) == list(range(20))

    lines = data_of(keyed.b("sniffed", name="tap", count=40, timeout_s=0.3))
    assert {line[0] & 3 for line in lines} == {1}
    assert not any(bytes.fromhex("0a0100") in line[8:] for line in lines)  # the start of an inner address
    assert grown(keyed.b, before, "data_obfuscated", "data_packets", "data_tag") == {
        "data_obfuscated": 20,
        "data_packets": 20,
    }
    assert keyed.a("dialect_use", address=keyed.links[0].rloc("b", 4))[::2] == [name, 20]


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_passes_in_both_directions(keyed: Lab, name: DialectName) -> None:
    use(keyed, name, key="2d")
    keyed.b("tcp_serve", address=EID_B4, port=5100 + NAMES.index(name))

    got = keyed.a("tcp_send", source=EID_A4, to=EID_B4, port=5100 + NAMES.index(name), octets=3_000_000)

    assert got == 3_000_000


@pytest.mark.parametrize("name", ["lispers-net-2", "lispers-net-5"])
def test_what_was_sealed_by_the_key_before_still_opens(keyed: Lab, name: DialectName) -> None:
    use(keyed, name, key="3c")
    assert send(keyed, 3, 0) == [0, 1, 2]
    a = keyed.links[0].rloc("a", 4)
    keyed.b("dialect", address=a, dialect=name, seals=False, key="4b" * 16)

    assert send(keyed, 3, 3) == [3, 4, 5]


def test_the_other_key_id_of_rfc_8061_opens_beside_the_first(keyed: Lab) -> None:
    use(keyed, "rfc8061", key="5a")
    assert send(keyed, 3, 0) == [0, 1, 2]
    a, b = keyed.links[0].rloc("a", 4), keyed.links[0].rloc("b", 4)

    keyed.b("dialect", address=a, dialect="rfc8061", seals=False, key="66" * 16, key_id=2)
    assert send(keyed, 3, 3) == [3, 4, 5]
    keyed.a("dialect", address=b, dialect="rfc8061", seals=True, key="66" * 16, key_id=2)
    assert send(keyed, 3, 6) == [6, 7, 8]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_key_loses_the_packets_and_without_one_they_go_in_clear(keyed: Lab, name: DialectName) -> None:
    use(keyed, name, key="78")
    a, b = keyed.links[0].rloc("a", 4), keyed.links[0].rloc("b", 4)
    keyed.a("dialect", address=b, dialect=name, seals=True, key="99" * 16)
    before = keyed.b("counters")
    keyed.a("udp_send", name="x", to=EID_B4, port=5000, count=3, first=0)
    keyed.b("wait_for_counter", name="data_tag", value=before.get("data_tag", 0) + 3)

    keyed.a("forget_dialect", address=b, seals=True)
    assert send(keyed, 3, 3) == [3, 4, 5]
    assert grown(keyed.b, before, "data_tag", "data_obfuscated") == {"data_tag": 3}
    keyed.b("forget_dialect", address=a, seals=False)


def test_a_peer_that_seals_is_sealed_for_and_never_less(keyed: Lab) -> None:
    use(keyed, "lispers-net-2", key="87")
    use_keys(keyed)
    link = keyed.links[0]
    keyed.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)], peer=1)
    before = keyed.a("counters")

    assert send(keyed, 5, 0) == list(range(5))
    keyed.a("forget_peer")
    keyed.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)], peer=1, must_seal=True)
    keyed.a("udp_send", name="x", to=EID_B4, port=5000, count=3, first=5)
    keyed.a("wait_for_counter", name="out_key_wait", value=before.get("out_key_wait", 0) + 3)

    assert grown(keyed.a, before, "out_obfuscated", "out_key_wait") == {"out_key_wait": 3}
    keyed.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)])
    keyed.b("forget_peer")


def test_what_opened_is_judged_as_if_it_had_come_in_clear(keyed: Lab) -> None:
    use(keyed, "rfc8061", key="e1")
    before = keyed.b("counters")
    keyed.b("refuse_clear", prefixes=[f"{EID_A4}/32"])

    keyed.a("udp_send", name="x", to=EID_B4, port=5000, count=3, first=0)
    keyed.b("wait_for_counter", name="data_clear", value=before.get("data_clear", 0) + 3)

    assert grown(keyed.b, before, "data_clear", "data_packets") == {"data_clear": 3}
    keyed.b("refuse_clear", prefixes=[])
