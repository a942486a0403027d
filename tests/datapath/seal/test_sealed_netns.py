"""Two engines with keys for each other: what is on the link, what is delivered, and what is lost."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import count
from typing import Any

import pytest

from lispmob.datapath import sealing
from lispmob.datapath.model import AeadName, SealedSession
from lispmob.wire.address import EidPrefix
from tests.datapath import corpus, too_big
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, RemoteEngine, lab
from tests.datapath.oracle import packet as oracle
from tests.datapath.seal.sealed import Session

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto"),
]

OF_A, OF_B = (f"{EID_A4}/32", f"{EID_A6}/128"), (f"{EID_B4}/32", f"{EID_B6}/128")
UDP_HEAD = 8


@pytest.fixture(scope="module", params=["tun", "ebpf"])
def sealed(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two links, of which the first is in use; sockets "x" on both sides for IPv4, "y" for IPv6."""
    with lab(links=2, tier=request.param, pending_per_entry=64) as made:
        for side, engine, v4, v6 in (("a", made.a, EID_A4, EID_A6), ("b", made.b, EID_B4, EID_B6)):
            engine("uplinks", uplinks=[link.uplink(side, priority=link.number + 1) for link in made.links])
            engine("udp_open", name="x", address=v4, port=5000)
            engine("udp_open", name="y", address=v6, port=5000)
        yield made


numbers = count(1)


def keys_of(side: str, number: int, aead: AeadName = "aes-128-gcm", *, is_confirmed: bool = True) -> SealedSession:
    """The session of one side in the exchange of this number."""
    keys = number.to_bytes(32, "big"), (number << 16).to_bytes(32, "big")
    own, other = (number, number + 5000) if side == "a" else (number + 5000, number)
    send_key, receive_key = keys if side == "a" else keys[::-1]
    sources = tuple(map(EidPrefix.parse, OF_B if side == "a" else OF_A))
    return SealedSession(1, own, other, send_key, receive_key, aead, 0, sources, is_confirmed)


def install(engine: RemoteEngine, wanted: SealedSession) -> None:
    engine(
        "session",
        keys=[wanted.send_key.hex(), wanted.receive_key.hex()],
        sources=[str(source) for source in wanted.sources],
        aead=wanted.aead,
        local_index=wanted.local_index,
        remote_index=wanted.remote_index,
        is_confirmed=wanted.is_confirmed,
    )


def use_keys(both: Lab, aead: AeadName = "aes-128-gcm", *, b_is_confirmed: bool = True) -> SealedSession:
    """Give both new keys, in an exchange that a began; returns a's."""
    number = next(numbers)
    mine = keys_of("a", number, aead)
    install(both.b, keys_of("b", number, aead, is_confirmed=b_is_confirmed))
    install(both.a, mine)
    return mine


def use_way(both: Lab, family: int = 4, *, must_seal: bool = True) -> None:
    for prefix in OF_B:
        rlocs = [link.rloc("b", family) for link in both.links]
        both.a("install", prefix=prefix, locators=rlocs, peer=1, must_seal=must_seal)
    for prefix in OF_A:
        rlocs = [link.rloc("a", family) for link in both.links]
        both.b("install", prefix=prefix, locators=rlocs, peer=1, must_seal=must_seal)


def grown(engine: RemoteEngine, before: dict[str, int], *names: str) -> dict[str, int]:
    """The counters that grew since `before`, and by how much."""
    now: dict[str, int] = engine("counters")
    added = {name: now.get(name, 0) - before.get(name, 0) for name in names}
    return {name: count for name, count in added.items() if count}


LOSSES = ("data_key", "data_tag", "data_replay", "data_source", "data_inner", "data_clear", "out_unsealed")


def data_of(packets: list[str], outer: int = 4) -> list[bytes]:
    """UDP payloads of sniffed packets, without control messages in the data plane."""
    head = (20 if outer == 4 else 40) + UDP_HEAD
    payloads = [bytes.fromhex(packet)[head:] for packet in packets]
    return [payload for payload in payloads if payload[4:7] != b"\xff\xff\xff"]


def received(engine: RemoteEngine, name: str = "x", count: int = 0) -> list[int]:
    """Numbers of the datagrams that arrived so far, once there are `count` of them."""
    return [number for number, _ in engine("udp_received", name=name, count=count)]


def udp_packet(source: str, destination: str) -> bytes:
    ends = ip_address(source).packed, ip_address(destination).packed
    return corpus.ipv4(corpus.udp(ports=(5000, 5999)), ends=ends)


def send(both: Lab, count: int, first: int, name: str = "x", **more: Any) -> list[int]:
    """Send `count` datagrams from a to b, with numbers from `first` on; returns the numbers that arrived."""
    there = EID_B4 if name == "x" else EID_B6
    seen = len(received(both.b, name))
    both.a("udp_send", name=name, to=there, port=5000, count=count, first=first, **more)
    return received(both.b, name, seen + count)[seen:]


@pytest.mark.parametrize("aead", ["aes-128-gcm", "chacha20-poly1305"])
@pytest.mark.parametrize("outer", [4, 6])
def test_packets_travel_sealed_and_cannot_be_read_on_the_line(sealed: Lab, outer: int, aead: AeadName) -> None:
    use_keys(sealed, aead)
    use_way(sealed, outer)
    sealed.b("sniff", name="s", interface="up0")
    before = sealed.b("counters")
    seen = len(received(sealed.b))

    for name in "xy":
        assert send(sealed, 20, 0, name, sizes=[64, 900, 1300]) == list(range(20))
    sealed.a("udp_burst", name="x", to=EID_B4, port=5000, count=30, size=1000)
    assert len(received(sealed.b, count=seen + 50)) == seen + 50
    sealed.b("tcp_serve", address=EID_B4, port=5001)
    assert sealed.a("tcp_send", source=EID_A4, to=EID_B4, port=5001, octets=3_000_000) == 3_000_000

    line = data_of(sealed.b("sniffed", name="s", count=100), outer)
    assert {payload[0] & 3 for payload in line} == {1}
    assert not any(b"xxxxxxxx" in payload or b"yyyyyyyy" in payload for payload in line)
    assert grown(sealed.b, before, *LOSSES) == {}


def test_without_a_key_packets_wait_and_leave_when_it_comes(sealed: Lab) -> None:
    for engine in (sealed.a, sealed.b):
        engine("forget_peer")
        engine("drain")
    use_way(sealed)
    before = sealed.a("counters")
    seen = len(received(sealed.b))

    sealed.a("udp_send", name="x", to=EID_B4, port=5000, count=20)
    sealed.a("wait_for_counter", name="out_key_wait", value=before.get("out_key_wait", 0) + 20)
    told = sealed.a("drain")
    answer = sealed.a("ask", source=EID_A4, destination=EID_B4, ports=[5000, 5000])
    use_keys(sealed)

    assert told == ["SealWanted(peer=1)"]
    assert answer[0] == "NO_KEY"
    assert received(sealed.b, count=seen + 20)[seen:] == list(range(20))


def test_who_answered_sends_after_the_first_packet_that_opened(sealed: Lab) -> None:
    for engine in (sealed.a, sealed.b):
        engine("forget_peer")
    use_way(sealed)
    use_keys(sealed, b_is_confirmed=False)
    time.sleep(1.05)  # a wish for keys from the test before may be less than a second old
    sealed.b("drain")
    seen = len(received(sealed.a))

    before = sealed.b("counters").get("out_key_wait", 0)
    sealed.b("udp_send", name="x", to=EID_A4, port=5000, count=10)
    sealed.b("wait_for_counter", name="out_key_wait", value=before + 10)
    assert sealed.b("sessions") == {"next": [0, 0]}
    assert sealed.a("keepalive")

    assert received(sealed.a, count=seen + 10)[seen:] == list(range(10))
    told = sealed.b("drain")
    assert [text.split("(")[0] for text in told] == ["SealWanted", "SealConfirmed"]
    assert sealed.b("sessions") == {"current": [10, 1]}


def test_no_packet_is_lost_while_keys_change(sealed: Lab) -> None:
    use_keys(sealed)
    use_way(sealed)
    before = sealed.b("counters")
    seen = len(received(sealed.b))

    sealed.a.start("udp_send", name="x", to=EID_B4, port=5000, count=1000, pause_s=0.0003)
    for _ in range(5):
        use_keys(sealed, b_is_confirmed=False)
    sealed.a.finish()

    assert sorted(received(sealed.b, count=seen + 1000)[seen:]) == list(range(1000))
    assert grown(sealed.b, before, *LOSSES) == {}


@pytest.mark.parametrize(("due", "over"), [({"age_s": 120}, {"age_s": 60}), ({"sent": 1 << 27}, {"sent": 1 << 27})])
def test_the_next_key_is_asked_for_in_time_and_an_old_one_seals_nothing(
    sealed: Lab, due: dict[str, int], over: dict[str, int]
) -> None:
    sealed.a("forget_peer")
    index = use_keys(sealed).local_index
    use_way(sealed)
    ask = {"source": EID_A4, "destination": EID_B4, "ports": [5000, 5000]}
    sealed.a("drain")

    sealed.a("wear", local_index=index, **due)
    assert sealed.a("ask", **ask)[0] == "SENT"
    assert send(sealed, 1, 0) == [0]
    sealed.a("wear", local_index=index, **over)

    assert sealed.a("ask", **ask)[0] == "NO_KEY"
    assert len([told for told in sealed.a("drain") if told == "SealWanted(peer=1)"]) <= 1


def test_what_was_sniffed_opens_on_no_other_uplink_either(sealed: Lab) -> None:
    use_keys(sealed)
    use_way(sealed)
    sealed.b("sniff", name="s", interface="up0")
    assert send(sealed, 10, 0, pause_s=0.002) == list(range(10))
    copies = data_of(sealed.b("sniffed", name="s", count=10))
    before = sealed.b("counters")
    seen = len(received(sealed.b))

    for link in sealed.links:
        sealed.a("inject", source=link.rloc("a", 4), to=link.rloc("b", 4), payloads=[copy.hex() for copy in copies])
    sealed.b("wait_for_counter", name="data_replay", value=before.get("data_replay", 0) + 2 * len(copies))

    assert grown(sealed.b, before, *LOSSES) == {"data_replay": 2 * len(copies)}
    assert len(received(sealed.b)) == seen


def test_bad_packets_are_counted_each_by_what_is_wrong(sealed: Lab) -> None:
    good = Session(use_keys(sealed))
    use_way(sealed)
    inner = bytes.fromhex("00")
    wrong = {
        "data_short": bytes.fromhex("0100000000000000") + bytes(27),
        "data_key": good.seal(1 << 27, inner)[:8] + bytes(12) + bytes(40),
        "data_tag": good.seal((1 << 27) + 1, inner)[:-1] + b"\0",
        "data_inner": good.seal((1 << 27) + 2, inner),
        "data_iid": good.seal((1 << 27) + 3, inner, header=bytes.fromhex("0800000000123400")),
        "data_source": good.seal((1 << 27) + 4, udp_packet("203.0.113.9", EID_B4)),
    }
    before = sealed.b("counters")

    link = sealed.links[0]
    payloads = [payload.hex() for payload in wrong.values()]
    sealed.a("inject", source=link.rloc("a", 4), to=link.rloc("b", 4), payloads=payloads)
    sealed.b("wait_for_counter", name="data_source", value=before.get("data_source", 0) + 1)

    assert grown(sealed.b, before, *wrong, "data_packets") == dict.fromkeys(wrong, 1)


def test_clear_text_of_who_has_to_seal_is_dropped(sealed: Lab) -> None:
    use_keys(sealed)
    use_way(sealed)
    before = sealed.b("counters")
    clear = (bytes(8) + udp_packet(EID_A4, EID_B4)).hex()
    link = sealed.links[0]
    ways = {"source": link.rloc("a", 4), "to": link.rloc("b", 4)}

    sealed.a("inject", payloads=[clear], **ways)
    sealed.b("wait_for_counter", name="data_packets", value=before.get("data_packets", 0) + 1)
    assert grown(sealed.b, before, "data_packets", "data_clear") == {"data_packets": 1}
    sealed.b("refuse_clear", prefixes=OF_A)
    sealed.a("inject", payloads=[clear], **ways)
    sealed.b("wait_for_counter", name="data_clear", value=before.get("data_clear", 0) + 1)

    assert grown(sealed.b, before, "data_packets", "data_clear") == {"data_packets": 1, "data_clear": 1}
    assert send(sealed, 5, 0) == list(range(5))
    sealed.b("refuse_clear", prefixes=[])


NOTIFY, ACK = "40000001" + "11" * 30, "50000001" + "22" * 30


@pytest.mark.parametrize("payload", [NOTIFY, ACK])
def test_a_word_in_a_session_is_reported_with_its_peer_and_goes_nowhere_else(sealed: Lab, payload: str) -> None:
    use_keys(sealed)
    use_way(sealed)
    send(sealed, 3, 0)
    before, a_before = sealed.b("counters"), sealed.a("counters")
    sealed.b("sniff", name="w", interface="up0")

    assert sealed.a("say", payload=payload)
    (word,) = sealed.b("words", count=1)

    assert word == [1, EID_A4, payload]
    assert grown(sealed.b, before, "data_control", "data_notours", *LOSSES) == {"data_control": 1}
    assert grown(sealed.a, a_before, *LOSSES) == {}
    assert not any(payload[8:] in packet for packet in sealed.b("sniffed", name="w", count=1))


def test_a_word_in_clear_or_of_another_kind_is_none(sealed: Lab) -> None:
    use_keys(sealed)
    use_way(sealed)
    send(sealed, 3, 0)
    before = sealed.b("counters")

    assert sealed.a("say", payload="10000001" + "33" * 30)  # a Map-Request
    send(sealed, 3, 10)

    assert sealed.b("words", count=0) == []
    assert grown(sealed.b, before, "data_control", "data_notours") == {"data_notours": 1}


def test_a_locator_on_trial_gets_so_many_packets_and_no_more_until_it_has_answered(sealed: Lab) -> None:
    use_keys(sealed)
    use_way(sealed)
    rloc = sealed.links[0].rloc("b", 4)
    sealed.a("install", prefix=OF_B[0], locators=[rloc], peer=1, must_seal=True, is_on_trial=True)
    before, seen = sealed.a("counters"), len(received(sealed.b))

    sealed.a("udp_send", name="x", to=EID_B4, port=5000, count=200, first=0)
    assert len(received(sealed.b, count=seen + 200)) == seen + 200
    sealed.a("udp_burst", name="x", to=EID_B4, port=5000, count=100, size=500)
    sealed.a("install", prefix=OF_B[0], locators=[rloc], peer=1, must_seal=True, is_on_trial=True)
    sealed.a("udp_send", name="x", to=EID_B4, port=5000, count=5, first=0)
    assert grown(sealed.a, before, "out_unproven")["out_unproven"] >= 100 + 5 - (256 - 200)
    sealed.a("install", prefix=OF_B[0], locators=[rloc], peer=1, must_seal=True)

    last = send(sealed, 10, 1000)[-10:]
    assert last == list(range(1000, 1010))
    assert len(received(sealed.b)) - seen <= 256 + 10


def test_through_a_relay_the_sealed_packet_is_an_inner_one_between_the_eids(sealed: Lab) -> None:
    use_keys(sealed)
    for engine, there, side in ((sealed.a, OF_B, "b"), (sealed.b, OF_A, "a")):
        for prefix in there:
            rloc = sealed.links[0].rloc(side, 4)
            engine("install", prefix=prefix, locators=[rloc], peer=1, must_seal=True, is_relay=True)
    before = sealed.b("counters")
    sealed.b("sniff", name="s", interface="up0")

    for name in "xy":
        assert send(sealed, 20, 0, name, sizes=[64, 900, 1300]) == list(range(20))
    sealed.b("tcp_serve", address=EID_B4, port=5002)
    assert sealed.a("tcp_send", source=EID_A4, to=EID_B4, port=5002, octets=3_000_000) == 3_000_000

    line = data_of(sealed.b("sniffed", name="s", count=100))
    assert {payload[0] & 3 for payload in line} == {0}
    kinds = {(inner[0] >> 4, nested_kk(inner)) for payload in line for inner in [payload[8:]]}
    assert kinds == {(4, 1), (6, 1)}
    assert not any(b"xxxxxxxx" in payload or b"yyyyyyyy" in payload for payload in line)
    assert grown(sealed.b, before, *LOSSES, "data_notours") == {}


def nested_kk(inner: bytes) -> int:
    """The KK bits of the LISP header inside UDP 4341 to 4341 between the EIDs."""
    head = 20 if inner[0] >> 4 == 4 else 40
    assert inner[9 if head == 20 else 6] == socket.IPPROTO_UDP
    assert inner[head : head + 4] == struct.pack("!HH", 4341, 4341)
    assert {EID_A4, EID_A6, EID_B4, EID_B6} >= {
        str(ip_address(inner[at : at + size]))
        for at, size in (((12, 4), (16, 4)) if head == 20 else ((8, 16), (24, 16)))
    }
    return inner[head + UDP_HEAD] & 3


@pytest.mark.parametrize("is_relay", [False, True])
def test_too_big_is_believed_about_a_sealed_packet_that_has_left(sealed: Lab, is_relay: bool) -> None:
    use_keys(sealed)
    link = sealed.links[0]
    sealed.a("install", prefix=OF_B[0], locators=[link.rloc("b", 4)], peer=1, must_seal=True, is_relay=is_relay)
    sealed.b("sniff", name="s", interface="up0")
    assert send(sealed, 1, 0, sizes=[1300]) == [0]
    packet = bytes.fromhex(next(one for one in sealed.b("sniffed", name="s", count=1) if len(one) > 2600))[:128]
    index = 28 + 8 + (20 + UDP_HEAD + 8 if is_relay else 0)
    forged = packet[:index] + bytes(4) + packet[index + 4 :]
    before = sealed.a("counters")
    assert "192.0.2.2" not in sealed.a("path_mtus")

    too_big.send(sealed.b.namespace, link.rloc("a", 4), (forged, 1390))
    sealed.a("wait_for_counter", name="mtu_ignored", value=before.get("mtu_ignored", 0) + 1)
    assert grown(sealed.a, before, "mtu_ignored", "mtu_learned") == {"mtu_ignored": 1}
    too_big.send(sealed.b.namespace, link.rloc("a", 4), (packet, 1400))
    sealed.a("wait_for_counter", name="mtu_learned", value=before.get("mtu_learned", 0) + 1)

    assert sealed.a("path_mtus") == {"192.0.2.2": 1400}
    sealed.a("path_mtu", local=link.rloc("a", 4), locator=link.rloc("b", 4), mtu_bytes=0)


@pytest.mark.parametrize(("name", "source", "to"), [("x", EID_B4, EID_B4), ("y", EID_B6, EID_B6)])
def test_what_a_relay_says_is_too_long_behind_it_counts_for_its_peer_if_it_quotes_what_has_left(
    sealed: Lab, name: str, source: str, to: str
) -> None:
    use_keys(sealed)
    link = sealed.links[0]
    for prefix in OF_B:
        sealed.a("install", prefix=prefix, locators=[link.rloc("b", 4)], peer=1, must_seal=True, is_relay=True)
    sealed.b("sniff", name="s", interface="up0")
    assert send(sealed, 1, 0, name, sizes=[1200]) == [0]
    line = next(one for one in sealed.b("sniffed", name="s", count=1) if len(one) > 2400)
    nested = bytes.fromhex(line)[28 + 8 :]
    index = (40 if ":" in to else 20) + UDP_HEAD + 8
    forged = nested[:index] + bytes(4) + nested[index + 4 :]
    unsent = nested[: index + 4] + bytes([nested[index + 4] ^ 1]) + nested[index + 5 :]
    before = sealed.a("counters")

    def told(quote: bytes, mtu_bytes: int) -> str:
        error = oracle.icmp_error(oracle.IcmpKind.TOO_BIG, mtu_bytes, ip_address(source), quote)
        assert error is not None
        return (bytes(8) + error).hex()

    errors = [told(forged, 1400), told(unsent, 1400), told(nested, 300), told(nested, 1400)]
    sealed.b("inject", payloads=errors, source=link.rloc("b", 4), to=link.rloc("a", 4))
    sealed.a("wait_for_counter", name="mtu_learned", value=before.get("mtu_learned", 0) + 1)
    assert grown(sealed.a, before, "mtu_learned", "mtu_ignored") == {"mtu_learned": 1, "mtu_ignored": 1}

    inside = 1400 - (
        64 + 28 if ":" not in to else 84 + 48
    )  # without the headers and the tag around it, and its own headers
    assert send(sealed, 1, 1, name, sizes=[inside]) == [1]
    sealed.a("udp_send", name=name, to=to, port=5000, first=2, sizes=[inside + 1])
    sealed.a("wait_for_counter", name="out_toobig", value=before.get("out_toobig", 0) + 1)
    assert grown(sealed.a, before, "out_toobig") == {"out_toobig": 1}


def test_what_a_peer_sends_from_an_eid_that_is_not_known_yet_waits_until_it_is(sealed: Lab) -> None:
    other = "10.1.0.77"
    use_way(sealed)
    index = use_keys(sealed).local_index + 5000
    sealed.b("check_sources", check="loose")
    sealed.b("drain")
    kept = Session(keys_of("a", next(numbers) - 1))
    before = sealed.b("counters")
    link = sealed.links[0]
    ways = {"source": link.rloc("a", 4), "to": link.rloc("b", 4)}

    packets = [kept.seal((1 << 27) + at, udp_packet(source, EID_B4)) for at, source in enumerate((other, "10.1.0.78"))]
    sealed.a("inject", payloads=[packet.hex() for packet in packets], **ways)
    sealed.b("wait_for_counter", name="data_source", value=before.get("data_source", 0) + 2)
    asked = [told for told in sealed.b("drain") if "Source" in told.split("(")[0]]
    assert sealed.b("sources", local_index=index, sources=[*OF_A, f"{other}/32"])
    for address in (other, "10.1.0.78"):
        sealed.b("install", prefix=f"{address}/32", locators=["203.0.113.250"])

    assert len(asked) == 2
    assert grown(sealed.b, before, "data_source", "data_moved") == {"data_source": 2, "data_moved": 1}
    again = kept.seal((1 << 27) + 9, udp_packet(other, EID_B4)).hex()
    sealed.a("inject", payloads=[again], **ways)
    sealed.b("wait_for_counter", name="data_packets", value=before.get("data_packets", 0) + 2)
    assert grown(sealed.b, before, "data_source", "data_packets") == {"data_source": 2, "data_packets": 2}
    sealed.b("check_sources", check="off")


def test_buffers_of_what_has_passed_are_given_back_once_it_is_quiet_and_serve_again(sealed: Lab) -> None:
    use_keys(sealed)
    use_way(sealed)
    sealed.b("tcp_serve", address=EID_B4, port=5009)
    sealed.a("tcp_send", source=EID_A4, to=EID_B4, port=5009, octets=20_000_000)
    sealed.a("rest")
    after_stream = sealed.a("resident_kb")
    sealed.a("rest")

    assert sealed.a("resident_kb") <= after_stream - 256
    assert send(sealed, 20, 0, sizes=[64, 900, 1300]) == list(range(20))
    sealed.b("tcp_serve", address=EID_B4, port=5010)
    assert sealed.a("tcp_send", source=EID_A4, to=EID_B4, port=5010, octets=3_000_000) == 3_000_000
