"""lispctl peers, names, name, ping and trace: what a user sees on 80 columns."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.structs import replace as changed

from lispmob.api.dbus import latest
from lispmob.api.peers.schema import Peer
from lispmob.api.sealing.schema import Seal
from lispmob.api.turns import Pages
from lispmob.lispctl.echoing import Hop, echo, hop
from lispmob.lispctl.flows import ping
from lispmob.lispctl.main import main
from lispmob.lispctl.show.peers import peer_lines, peers_lines
from lispmob.lispctl.upkeep.words import safe
from lispmob.terminal.text import cells
from tests.api.fake_backend import Served
from tests.api.fake_peers import NAS, PHONE


def run(daemon: Served, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    assert main(["--socket", str(daemon.path), *words]) == code
    shown = capsys.readouterr()
    return (shown.out if code == 0 else shown.err).splitlines()


def test_peers_are_a_table_with_those_that_are_used_first(daemon: Served, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(daemon, capsys, "peers")
    assert [line.split()[0] for line in lines[1:3]] == ["nas", "-"]
    assert lines[3] == "no answer from 10.99.0.3"
    assert max(map(cells, lines)) <= 80


def test_a_name_that_is_asked_for_just_now_is_waited_for_once(
    daemon: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.backend.peers.names_asked = 1

    assert json.loads("\n".join(run(daemon, capsys, "peers", "--json")))["names_asked"] == 0


def test_one_peer_is_shown_with_everything_that_is_known(daemon: Served, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(daemon, capsys, "peers", "nas")

    assert "sent         1234 packets, 1.2 MB, to 203.0.113.5" in lines
    assert "received     99 packets, 9.9 kB, from there" in lines
    assert "way back     wwan0, from 203.0.113.7 to 198.51.100.40, heard 0.4s ago" in lines
    assert "round trip   12.3 ms, 1.5% of the probes lost" in lines
    assert "MTU          1500 outside, 1464 inside" in lines
    assert "packets are  in clear: its key is not known" in lines


@pytest.mark.parametrize(
    ("said", "version", "genuine", "line"),
    [
        ("map-reply", 0, True, "from a Map-Reply; genuine by LISP-SEC"),
        ("map-reply", 0, False, "from a Map-Reply; not proved by LISP-SEC"),
        ("published", 17, True, "published by the Map-Server, version 17; genuine by LISP-SEC"),
        ("announced", 18, True, "announced by the peer in its session, version 18; genuine by LISP-SEC"),
        ("static", 0, False, "from the configuration, or by hand"),
        ("program", 0, False, "from a program on this host"),
        (None, 0, False, "from a source that is not known; not proved by LISP-SEC"),
    ],
)
def test_one_peer_says_where_its_mapping_comes_from(said: Any, version: int, genuine: bool, line: str) -> None:
    peer = to_builtins(changed(NAS, mapping_from=said, map_version=version, is_genuine=genuine))

    assert f"mapping {line}" in " ".join(" ".join(peer_lines(peer)).split())


def test_a_peer_that_a_dialect_encrypts_for_is_obfuscated_and_not_sealed() -> None:
    why = "the key is not authenticated"
    peer = to_builtins(changed(NAS, seal=Seal(state="obfuscated (lispers.net)", why=why)))

    assert any("obfuscated (lispers.net)" in line for line in peers_lines([peer])[1:])
    assert f"packets are  obfuscated (lispers.net): {why}" in peer_lines(peer)


def test_an_unknown_peer_is_an_error(daemon: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(daemon, capsys, "peers", "printer", code=1) == ["lispctl: printer: no site of the hub has this name"]


@pytest.mark.parametrize("name", ["", "n\u00e4s", "a\nb", "x" * 256])
def test_what_no_name_can_be_is_refused(daemon: Served, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "printable ASCII characters" in run(daemon, capsys, "peers", name, code=1)[0]


def test_without_peers_a_sentence_says_so() -> None:
    assert peers_lines([]) == ["no peers: no packet has gone to a node that is there now"]


def test_the_end_that_seals_packets_is_shown_where_there_is_one() -> None:
    sealed = to_builtins(changed(NAS, seal=Seal(state="sealed", why="the Map-Server vouches for its key")))
    clear = to_builtins(changed(PHONE, seal=Seal(state="clear", why="its key is not known")))
    waiting = to_builtins(changed(PHONE, seal=Seal(state="waiting", why="a handshake is under way")))

    lines = peers_lines([sealed, clear])

    assert "sealed" in lines[0] + lines[1] + lines[2]
    assert "clear" in "\n".join(lines)
    assert "packets are  sealed: the Map-Server vouches for its key" in peer_lines(sealed)
    assert "packets are  in clear: its key is not known" in peer_lines(clear)
    assert "packets are  kept until they can be sealed: a handshake is under way" in peer_lines(waiting)
    assert "SEAL" not in "\n".join(peers_lines([clear]))


@pytest.mark.parametrize("name", ["n" * 63, "\u5e02\u5834" * 12])
def test_peers_fit_the_screen_however_long_their_names_are(name: str) -> None:
    many = [
        to_builtins(changed(NAS, name=name, eid="2001:db8:1111:2222:3333:4444:5555:6666/128", way="past-rtr")),
        to_builtins(PHONE),
    ]

    assert max(map(cells, peers_lines(many))) <= 80


def test_escapes_in_what_the_daemon_says_reach_no_terminal() -> None:
    odd = to_builtins(changed(NAS, name="\x1b[2Jnas", uplink="wl\x07an"))

    assert not any(sign in line for line in (*peers_lines([odd]), *peer_lines(odd)) for sign in "\x1b\x07")


def test_names_say_who_is_told_and_what_to_do(daemon: Served, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(daemon, capsys, "names")

    assert lines[:2] == ["lisp.home.arpa: answered at 10.99.0.7 port 5399; no resolver of this host is", "configured"]
    assert "Access denied" in lines
    assert "  dnsmasq: `server=/lisp.home.arpa/10.99.0.7#5399`" in lines
    assert lines[-1].split() == ["nas", "10.99.0.2", "9m"]


def test_a_name_is_told_or_why_not(daemon: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(daemon, capsys, "name", "nas") == ["10.99.0.2"]
    assert run(daemon, capsys, "name", "printer", code=1) == ["lispctl: printer: no site of the hub has this name"]
    assert "the name cannot be looked up" in run(daemon, capsys, "name", "silent", code=1)[0]


@pytest.mark.parametrize(
    "words", [("-c", "0"), ("-c", "100000"), ("-i", "0.01"), ("-i", "nan"), ("-W", "0"), ("-W", "inf")]
)
def test_numbers_that_cannot_be_meant_are_refused(
    daemon: Served, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert " is not 0." in (said := run(daemon, capsys, "ping", "nas", *words, code=2)[0]) or " is not 1 to" in said


def test_ping_shows_inside_and_outside_side_by_side(
    daemon: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(address: str, source: str | None, sequence: int, timeout_s: float) -> Hop:
        asked.append((address, source))
        return Hop(address, 10.0 + sequence if source is None else 9.0, is_last=True)

    monkeypatch.setattr("lispmob.lispctl.echoing.echo", answer)
    lines = run(daemon, capsys, "ping", "-c", "2", "-i", "0.2", "nas")

    assert asked[:2] == [("10.99.0.2", None), ("203.0.113.5", "198.51.100.23")]
    assert lines == [
        "  1  inside   10.0 ms  outside    9.0 ms  wlan0, direct",
        "  2  inside   11.0 ms  outside    9.0 ms  wlan0, direct",
        "nas: inside 2 packets, 0 lost, 10.0 / 10.5 / 11.0 ms (least, mean, most)",
        "203.0.113.5: outside 2 packets, 0 lost, 9.0 / 9.0 / 9.0 ms (least, mean, most)",
        "RLOC-probes: 12.3 ms, 1.5% lost",
        "way back: wwan0, from 203.0.113.7 to 198.51.100.40, heard 0.4s ago",
    ]


def test_a_ping_that_does_not_go_through_the_overlay_says_so() -> None:
    peer = to_builtins(Peer(eid="192.0.2.130/32", way="none", why="nothing is known about it yet"))
    answered, silent = ({"inside_ms": value, "outside_ms": None} for value in (0.1, None))

    said = " ".join(" ".join(ping._summary_lines({"peer": peer, "rounds": [answered]})).split())

    assert said.endswith("not through the overlay, but by this host's own routes: nothing is known about it yet")
    assert "routes" not in " ".join(ping._summary_lines({"peer": peer, "rounds": [silent]}))


@pytest.mark.parametrize("why", ["refused by 10.99.0.7", None])
def test_who_refuses_in_the_place_of_a_peer_is_no_answer_of_it(why: str | None) -> None:
    one = {**to_builtins(NAS), "inside_ms": None, "inside_why": why, "outside_ms": 9.0}
    said = " ".join(" ".join(ping._round_lines(1, one)).split())

    assert said == "1 inside no answer outside 9.0 ms wlan0, direct" + (f"; {why}" if why else "")
    traced = ping.trace_lines({"peer": to_builtins(NAS), "inside_ms": None, "inside_why": why, "hops": []})
    assert traced[0] == "inside   to nas 10.99.0.2: no answer" + (f", {why}" if why else "")


def test_a_peer_that_no_packet_was_sent_to_has_no_mapping_yet() -> None:
    peer = to_builtins(Peer(eid="10.99.0.9/32", way="none", why="nothing is known about it yet"))

    assert "mapping   none yet: lispd asks for it when a packet is sent there" in peer_lines(peer)


def test_trace_shows_the_hops_outside_and_ends_when_no_hop_answers(
    daemon: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_address: str, _source: str | None, sequence: int, _timeout_s: float, _hops: int = 0) -> Hop:
        return Hop("198.51.100.1", 1.0) if sequence == 1 else Hop(None, None)

    monkeypatch.setattr("lispmob.lispctl.echoing.echo", lambda *_: Hop("10.99.0.2", 12.0, is_last=True))
    monkeypatch.setattr("lispmob.lispctl.echoing.hop", answer)

    assert run(daemon, capsys, "trace", "nas") == [
        "inside   to nas 10.99.0.2: 12.0 ms",
        "outside  from 198.51.100.23 to 203.0.113.5: wlan0, direct",
        "      1  198.51.100.1  1.0 ms",
        "      2  *",
        "back     wwan0, from 203.0.113.7 to 198.51.100.40, heard 0.4s ago",
        "loss     1.5% of the probes, there and back",
        "MTU      1500 outside, 1464 inside",
    ]


def test_a_closed_port_of_this_host_is_a_round_trip_and_silence_is_none() -> None:
    assert hop("127.0.0.1", None, 0, 2.0).is_last
    assert echo("127.0.0.1", "127.0.0.1", 1, 2.0).rtt_ms is not None
    assert hop("127.0.0.1", "192.0.2.1", 0, 0.1).why is not None


def test_who_listens_and_says_nothing_is_silence() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 33434 + 7))
        assert hop("127.0.0.1", None, 7, 0.05) == Hop(None, None)


def test_the_way_of_a_peer_behind_an_rtr_names_it() -> None:
    one = to_builtins(changed(PHONE, rtr="198.18.0.10"))
    assert ping._way(one) == "wwan0, by the RTR 198.18.0.10"
    assert ping._way(to_builtins(Peer(eid="10.99.0.9/32", way="none", why="miss"))) == "no way"


def test_only_the_latest_of_very_many_peers_are_on_the_bus() -> None:
    many = Pages(iter([[changed(NAS, used_s=float(at))] for at in range(1000, 0, -1)]), {})

    found = asyncio.run(latest(many, 256))

    assert [getattr(value, "used_s", None) for value in found] == [float(at) for at in range(1, 257)]


def test_shells_complete_uplinks_names_and_eids(daemon: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(daemon, capsys, "words", "uplinks") == ["wlan0", "wwan0"]
    assert run(daemon, capsys, "words", "peers") == ["nas", "10.99.0.2", "10.99.0.3"]


def test_no_word_that_a_shell_would_run_is_completed() -> None:
    odd = ["nas", "$(reboot)", "`reboot`", "a b", "a;b", "-rf", "", None, "n\u00e4s", "x" * 300, "nas"]

    assert safe(odd) == ["nas"]
