"""The DNS server on loopback: questions as resolvers ask them, and as attackers do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.tsigkeyring
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.errors import KernelRefused
from lispmob.names.dns_message import UDP_OCTETS, Question, read_question, write_answer
from lispmob.names.server import NameServer
from lispmob.names.server import Place as At
from lispmob.names.shares import CONNECTIONS, CONNECTIONS_OF_USER, NAMES_OF_USER_BURST, WAITING, WAITING_OF_USER
from lispmob.names.zone import Answer, RCode, Record, Zone
from lispmob.protocol.effect import NameResolved

HERE = ip_address("127.0.0.1")
PORTS_TRIED = 5
ZONE = Zone("lisp.home.arpa", [ip_network("10.99.0.0/16")])
NAS = NameResolved(b"nas", (ip_address("10.99.0.2"),), "registered")


class Place:
    """A server that knows `nas`, gets no answer about `slow`, and a negative one about others; and a socket that asks.

    `users` has the user of each port; other ports have none in particular.
    """

    def __init__(self, *, may_ask: bool = True) -> None:
        self.asked: list[bytes] = []
        self.users: dict[int, int] = {}
        self.server = NameServer(
            ZONE, self._find, lambda _: may_ask, is_known=lambda name: name == b"known", owner=self._owner
        )
        self.port = 0

    def _owner(self, _: int, theirs: At, ours: At) -> int | None:
        assert ours == (HERE, self.port)
        return self.users.get(theirs[1])

    async def _find(self, name: bytes) -> NameResolved:
        self.asked.append(name)
        if name.startswith(b"slow"):
            await asyncio.Event().wait()
        if name == b"2.0.99.10.in-addr.arpa":
            return NameResolved(name, (), "registered", names=(b"nas",))
        return NAS if name in (b"nas", b"known") else NameResolved(name, (), "no site has registered it")

    async def start(self) -> None:
        """Listen on a port that is free in UDP and in TCP: other tests on this machine have ports of their own."""
        for left in reversed(range(PORTS_TRIED)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
                spare.bind((str(HERE), 0))
                self.port = spare.getsockname()[1]
            try:
                await self.server.start([HERE], self.port)
                return
            except KernelRefused:
                if not left:
                    raise

    async def udp(self, raw: bytes, timeout_s: float = 5.0) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as client:
            client.connect((str(HERE), self.port))
            client.send(raw)
            async with asyncio.timeout(timeout_s):
                return await loop.sock_recv(client, 65535)

    async def tcp(self, *raw: bytes) -> list[bytes]:
        reader, writer = await asyncio.open_connection(str(HERE), self.port)
        try:
            writer.writelines(len(datagram).to_bytes(2) + datagram for datagram in raw)
            async with asyncio.timeout(5.0):
                return [await reader.readexactly(int.from_bytes(await reader.readexactly(2))) for _ in raw]
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def run(do: Callable[[Place], Awaitable[None]], *, may_ask: bool = True) -> None:
    async def all_of_it() -> None:
        place = Place(may_ask=may_ask)
        await place.start()
        try:
            await do(place)
        finally:
            place.server.close()
            await asyncio.sleep(0)

    asyncio.run(all_of_it())


def query(name: str, kind: str = "A", *, use_edns: bool = False) -> bytes:
    return dns.message.make_query(name, kind, use_edns=use_edns).to_wire()


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "texts"),
    [
        ("nas.lisp.home.arpa", "A", "NOERROR", ["10.99.0.2"]),
        ("NAS.LISP.home.arpa", "AAAA", "NOERROR", []),
        ("2.0.99.10.in-addr.arpa", "PTR", "NOERROR", ["nas.lisp.home.arpa."]),
        ("_lispflow._udp.nas.lisp.home.arpa", "SRV", "NOERROR", ["0 0 3359 nas.lisp.home.arpa."]),
        ("nobody.lisp.home.arpa", "A", "NXDOMAIN", []),
        ("example.org", "A", "REFUSED", []),
        ("lisp.home.arpa", "NS", "NOERROR", ["lispd.lisp.home.arpa."]),
    ],
)
def test_a_resolver_gets_its_answer_by_udp_and_tcp(name: str, kind: str, rcode: str, texts: list[str]) -> None:
    async def do(place: Place) -> None:
        asked = query(name, kind, use_edns=True)
        for raw in (await place.udp(asked), *await place.tcp(asked)):
            answer = dns.message.from_wire(raw)
            assert dns.rcode.to_text(answer.rcode()) == rcode
            assert [record.to_text() for found in answer.answer for record in found] == texts
            assert answer.edns == 0
            assert bool(answer.flags & dns.flags.AA) is (rcode != "REFUSED")
            assert bool(answer.authority) is (not texts and rcode != "REFUSED")

    run(do)


@pytest.mark.parametrize(
    ("kind", "class_", "edns", "rcode"),
    [
        ("A", "CH", 0, "REFUSED"),
        ("A", "NONE", -1, "REFUSED"),
        ("A", "ANY", -1, "NOERROR"),
        ("ANY", "IN", 0, "NOERROR"),
        ("AXFR", "IN", -1, "REFUSED"),
        ("IXFR", "IN", 0, "REFUSED"),
        ("OPT", "IN", -1, "FORMERR"),
        ("TSIG", "IN", -1, "FORMERR"),
        ("TYPE65400", "IN", 0, "NOERROR"),
        ("HTTPS", "IN", 0, "NOERROR"),
        ("A", "IN", 1, "BADVERS"),
        ("A", "IN", 255, "BADVERS"),
    ],
)
def test_questions_of_strange_types_classes_and_versions_have_their_answers(
    kind: str, class_: str, edns: int, rcode: str
) -> None:
    async def do(place: Place) -> None:
        asked = dns.message.make_query("nas.lisp.home.arpa", kind, class_)
        cookie: list[dns.edns.Option] = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")]
        asked.use_edns(edns if edns >= 0 else False, payload=65535, options=cookie if edns >= 0 else None)
        for raw in (await place.udp(asked.to_wire()), *await place.tcp(asked.to_wire())):
            answer = dns.message.from_wire(raw)
            assert dns.rcode.to_text(answer.rcode()) == rcode
            assert answer.edns == min(edns, 0)
        assert place.asked == [] or rcode == "NOERROR"

    run(do)


@pytest.mark.parametrize("offered", [0, 511, 1232, 65535])
def test_who_offers_little_or_all_the_room_gets_an_answer_that_fits_the_way(offered: int) -> None:
    asked = dns.message.make_query("nas.lisp.home.arpa", "A")
    asked.use_edns(0, payload=offered)
    question = read_question(asked.to_wire())
    assert isinstance(question, Question)
    many = Answer(RCode.NOERROR, tuple(Record("A", ip_address(f"10.99.1.{n}")) for n in range(200)), ZONE.domain)

    assert len(write_answer(question, many)) <= max(512, min(offered, UDP_OCTETS))


def test_a_change_of_the_zone_and_a_signature_by_an_unknown_key_are_not_taken() -> None:
    change = dns.update.UpdateMessage("lisp.home.arpa")
    change.add("thief", 60, "A", "192.0.2.66")
    signed = dns.message.make_query("nas.lisp.home.arpa", "A")
    signed.use_tsig(dns.tsigkeyring.from_text({"key.": "aGVsbG8="}))

    async def do(place: Place) -> None:
        assert (await place.udp(change.to_wire()))[3] & 15 == dns.rcode.NOTIMP
        assert (await place.udp(signed.to_wire()))[3] & 15 == dns.rcode.FORMERR
        assert place.asked == []

    run(do)


def test_a_connection_takes_several_questions() -> None:
    async def do(place: Place) -> None:
        answers = await place.tcp(query("nas.lisp.home.arpa"), query("example.org"), query("nas.lisp.home.arpa"))
        assert [dns.message.from_wire(answer).rcode() for answer in answers] == [0, 5, 0]

    run(do)


@pytest.mark.parametrize(
    ("raw", "rcode"),
    [
        (b"\x12\x34" + bytes(10), 1),
        (b"\x12\x34\x01\x00" + b"\xff" * 8, 1),
        (b"\x12\x34" + query("nas.lisp.home.arpa")[2:-3], 1),
        (b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\xc0\x0c" * 20, 1),
        (b"\x12\x34\x10\x00" + bytes(8), 4),
    ],
)
def test_a_malformed_question_is_told_so(raw: bytes, rcode: int) -> None:
    async def do(place: Place) -> None:
        answer = await place.udp(raw)
        assert answer[:2] == raw[:2]
        assert answer[2] & 0x80
        assert answer[3] & 0x0F == rcode
        assert place.asked == []

    run(do)


@pytest.mark.parametrize("raw", [b"", b"\x00" * 11, b"\x12\x34\x81\x80" + bytes(8)])
def test_what_is_no_question_gets_no_answer_and_is_counted(raw: bytes) -> None:
    async def do(place: Place) -> None:
        with pytest.raises(TimeoutError):
            await place.udp(raw, 0.1)
        await place.udp(query("nas.lisp.home.arpa"))
        assert place.server.counters["dns_malformed"] == 1

    run(do)


def test_strangers_get_no_answer_and_are_counted() -> None:
    async def do(place: Place) -> None:
        with pytest.raises(TimeoutError):
            await place.udp(query("nas.lisp.home.arpa"), 0.1)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await place.tcp(query("nas.lisp.home.arpa"))
        assert place.server.counters["dns_stranger"] == 2
        assert place.asked == []

    run(do, may_ask=False)


class Flood:
    """Users who ask for names that are never answered, each from a port of their own."""

    def __init__(self, place: Place, users: int = 1) -> None:
        self._place = place
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(users)]
        for user, client in enumerate(self._sockets):
            client.connect((str(HERE), place.port))
            client.setblocking(False)
            place.users[client.getsockname()[1]] = 1000 + user

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._sockets:
            client.close()

    async def ask(self, names: list[str], too_many: int) -> None:
        """All users ask for each name, until so many questions were refused."""
        for name in names:
            for client in self._sockets:
                client.send(query(f"{name}.lisp.home.arpa"))
                await asyncio.sleep(0)
        for _ in range(10_000):
            if self._place.server.counters["dns_too_many"] >= too_many:
                return
            await asyncio.sleep(0)
        raise AssertionError(self._place.server.counters)


async def rcode(place: Place, name: str) -> str:
    return dns.rcode.to_text(dns.message.from_wire(await place.udp(query(name))).rcode())


def test_questions_that_wait_are_bounded_and_others_are_answered_meanwhile() -> None:
    async def do(place: Place) -> None:
        with Flood(place, users=4) as flood:
            await flood.ask(["slow"] * (WAITING // 4 + 25), too_many=100)
            assert await rcode(place, "example.org") == "REFUSED"
            assert await rcode(place, "nas.lisp.home.arpa") == "SERVFAIL"
            assert await rcode(place, "known.lisp.home.arpa") == "NOERROR"
        assert len(place.asked) == WAITING + 1

    run(do)


def test_a_user_whose_questions_wait_leaves_room_for_those_of_others() -> None:
    async def do(place: Place) -> None:
        with Flood(place) as flood:
            await flood.ask(["slow"] * (WAITING_OF_USER + 50), too_many=50)
            assert await rcode(place, "nas.lisp.home.arpa") == "NOERROR"
        assert len(place.asked) == WAITING_OF_USER + 1

    run(do)


def test_a_user_who_asks_for_ever_other_names_leaves_those_of_others_to_be_asked_for() -> None:
    async def do(place: Place) -> None:
        with Flood(place) as flood:
            await flood.ask([f"slow{number}" for number in range(NAMES_OF_USER_BURST + 30)], too_many=30)
            assert await rcode(place, "nas.lisp.home.arpa") == "NOERROR"
        assert len(place.asked) == NAMES_OF_USER_BURST + 1

    run(do)


def test_a_user_whose_questions_were_answered_asks_as_many_again() -> None:
    async def do(place: Place) -> None:
        for _ in range(3):
            codes = [await rcode(place, "nas.lisp.home.arpa") for _ in range(6)]
            assert codes == ["NOERROR"] * 6
        assert place.server.counters["dns_too_many"] == 0

    run(do)


def test_connections_are_bounded() -> None:
    async def do(place: Place) -> None:
        users = iter(range(CONNECTIONS))
        place.server._owner = lambda protocol, _, __: next(users, None) if protocol == socket.IPPROTO_TCP else None
        idle = [await asyncio.open_connection(str(HERE), place.port) for _ in range(CONNECTIONS)]
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await place.tcp(query("nas.lisp.home.arpa"))
        assert await rcode(place, "nas.lisp.home.arpa") == "NOERROR"
        for _, writer in idle:
            writer.close()

    run(do)


def test_a_user_with_many_connections_leaves_some_for_others() -> None:
    async def do(place: Place) -> None:
        idle = [await asyncio.open_connection(str(HERE), place.port) for _ in range(CONNECTIONS_OF_USER)]
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await place.tcp(query("nas.lisp.home.arpa"))
        place.server._owner = lambda _, __, ___: 1000
        assert len(await place.tcp(query("nas.lisp.home.arpa"))) == 1
        for _, writer in idle:
            writer.close()

    run(do)


def test_an_address_at_which_another_program_listens_is_named() -> None:
    async def do(place: Place) -> None:
        other = NameServer(ZONE, place._find, lambda _: True)
        with pytest.raises(KernelRefused, match=rf"127\.0\.0\.1 port {place.port} \(Address already in use\)"):
            await other.start([HERE], place.port)
        assert other.addresses == ()

    run(do)


def test_the_server_listens_at_an_eid_before_the_kernel_has_it() -> None:
    async def do(place: Place) -> None:
        early = NameServer(ZONE, place._find, lambda _: True)
        await early.start([ip_address("198.51.100.99"), ip_address("2001:db8::99")], place.port)
        assert len(early.addresses) == 2
        early.close()

    run(do)


def test_an_answer_that_is_too_long_for_udp_is_marked_so_that_tcp_is_tried() -> None:
    question = read_question(query("nas.lisp.home.arpa"))
    assert isinstance(question, Question)
    many = Answer(RCode.NOERROR, tuple(Record("A", ip_address(f"10.99.1.{n}")) for n in range(200)), ZONE.domain)

    short, whole = write_answer(question, many), write_answer(question, many, is_tcp=True)

    assert len(short) <= 512 < UDP_OCTETS < len(whole)
    assert dns.message.from_wire(short).flags & dns.flags.TC
    assert len(dns.message.from_wire(whole).answer[0]) == 200


@given(st.binary(max_size=300))
def test_any_octets_are_a_question_an_error_or_nothing(raw: bytes) -> None:
    for datagram in (raw, query("nas.lisp.home.arpa")[:12] + raw):
        found = read_question(datagram)
        if isinstance(found, Question):
            answer = ZONE.question(found.name, found.kind) if found.refusal is None else Answer(found.refusal)
            assert write_answer(found, answer if isinstance(answer, Answer) else Answer(RCode.SERVFAIL))
        else:
            assert found is None or len(found) == 12


CHANGES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=6)


@given(st.sampled_from(["A", "ANY", "AXFR", "OPT", "SRV", "PTR"]), st.booleans(), CHANGES, st.binary(max_size=60))
def test_a_question_that_was_damaged_is_a_question_an_error_or_nothing(
    kind: str, use_edns: bool, changes: list[tuple[int, int]], more: bytes
) -> None:
    raw = bytearray(query("nas.lisp.home.arpa", kind, use_edns=use_edns) + more)
    for place, octet in changes:
        raw[place % len(raw)] = octet

    found = read_question(bytes(raw))

    if isinstance(found, Question):
        answer = ZONE.question(found.name, found.kind) if found.refusal is None else Answer(found.refusal)
        written = write_answer(found, answer if isinstance(answer, Answer) else Answer(RCode.SERVFAIL))
        assert written[:2] == bytes(raw[:2])
        assert len(written) <= UDP_OCTETS
