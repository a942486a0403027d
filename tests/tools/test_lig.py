"""lig's questions, answers and reasons, in virtual time; its start and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from lispmob.config.node import load_node
from lispmob.tools import lig
from lispmob.tools.asking import Unasked
from lispmob.tools.lig_keys import secrets_of
from lispmob.tools.lig_security import Protection, Secret, registration_secret
from lispmob.tools.lig_text import answer_lines, as_json
from lispmob.tools.own import read_configuration, read_status
from lispmob.tools.question import Asker, Lookup, Reason, on_datagram
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import DistinguishedName, EidPrefix
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.lisp_sec import AuthorizedEid, EcmSecurity, EidAuthentication
from lispmob.wire.lisp_sec_auth import HKDF_SHA_256, HMAC_SHA_256_128
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.name_eid import name_record
from lispmob.wire.reader import Reader
from lispmob.wire.record import Action, Locator, MappingRecord

EID = EidPrefix.parse("10.1.0.2/32")
RESOLVER, ETR, SELF4, SELF6 = map(ip_address, ("198.51.100.1", "203.0.113.5", "192.0.2.9", "2001:db8::9"))


def lookup(eid: EidPrefix = EID, *, tries: int = 3, rlocs: tuple[str, ...] = ("192.0.2.9", "2001:db8::9")) -> Lookup:
    asker = Asker(tuple(map(ip_address, rlocs)), 50000)
    return Lookup(eid, RESOLVER, asker, count(7).__next__, tries=tries, timeout_s=2.0)


def reply(nonce: int, *locators: Locator, eid: EidPrefix = EID, action: Action = Action.NO_ACTION) -> bytes:
    return MapReply(nonce, (MappingRecord.of(eid, locators, ttl_min=10, action=action),)).encode()


def asked(datagram: bytes | None) -> tuple[EncapsulatedControl, MapRequest]:
    assert datagram is not None
    ecm = EncapsulatedControl.decode(datagram)
    return ecm, MapRequest.decode(ecm.message)


def answered(*locators: Locator, source: str = "198.51.100.1") -> Lookup:
    one = lookup()
    one.on_timer(0.0)
    on_datagram([one], reply(7, *locators), source, 4342, 0.0123)
    return one


def test_the_answer_is_asked_for_at_the_port_that_the_question_leaves_from() -> None:
    ecm, request = asked(lookup().on_timer(0.0))

    assert (ecm.source_port, ecm.destination_port, ecm.destination) == (50000, 4342, EID.address)
    assert request.itr_rlocs == (SELF4, SELF6)
    assert (request.records[0].eid_prefix, request.source_eid) == (EID, None)


def test_an_eid_of_another_family_than_the_resolver_has_an_inner_source_of_its_own_family() -> None:
    both = lookup(EidPrefix.parse("2001:db8:e::2/128")).on_timer(0.0)
    lonely = lookup(EidPrefix.parse("[7]2001:db8:e::2/128"), rlocs=("192.0.2.9",)).on_timer(0.0)

    assert asked(both)[0].source == SELF6
    assert asked(lonely)[0].source == ip_address("::")
    assert asked(lonely)[1].records[0].eid_prefix == EidPrefix.parse("[7]2001:db8:e::2/128")


def test_it_asks_again_with_another_nonce_until_the_last_wait_is_over() -> None:
    one = lookup()

    nonces = [asked(one.on_timer(now))[1].nonce for now in (0.0, 2.0, 4.0)]
    early, last = one.on_timer(5.9), one.on_timer(6.0)

    assert nonces == [7, 8, 9]
    assert (early, last, one.is_over, one.wake_at()) == (None, None, True, None)
    assert one.reasons == [Reason("timeout", "no answer within 3 x 2 s from 198.51.100.1 port 4342")]


def test_the_round_trip_counts_from_the_try_that_was_answered() -> None:
    one = lookup()
    one.on_timer(0.0)
    one.on_timer(2.0)

    on_datagram([one], reply(7, Locator(ETR)), "203.0.113.5", 4342, 2.5)

    assert one.answer is not None
    assert (one.answer.rtt_s, one.answer.source, one.is_over) == (2.5, ETR, True)


@pytest.mark.parametrize(
    ("datagram", "kind", "words"),
    [
        (reply(99), "wrong-nonce", "wrong nonce 0x0000000000000063"),
        (reply(7)[:20], "malformed", "malformed Map-Reply"),
        (b"", "malformed", "malformed Map-Reply"),
        (bytes((0x60, 0, 0, 0)) + bytes(40), "wrong-type", "DDT node"),
        (bytes((0x10, 0, 0, 0)) + bytes(40), "wrong-type", "message of type 1"),
        (reply(7, eid=EidPrefix.parse("10.9.0.0/16")), "wrong-eid", "answered about 10.9.0.0/16, not about"),
        (reply(7, eid=EidPrefix.parse("2001:db8::/32")), "wrong-eid", "of the wrong family"),
    ],
)
def test_what_is_no_answer_explains_the_silence_and_does_not_end_the_waiting(
    datagram: bytes, kind: str, words: str
) -> None:
    one = lookup()
    one.on_timer(0.0)

    on_datagram([one], datagram, "198.51.100.1", 4342, 0.1)

    (reason,) = one.reasons
    assert (reason.kind, one.is_over, one.answer) == (kind, False, None)
    assert words in reason.text


def test_a_forged_icmp_error_ends_nothing_and_the_answer_still_counts() -> None:
    one = lookup()
    one.on_timer(0.0)

    one.on_icmp("nobody listens there")
    on_datagram([one], reply(7, Locator(ETR)), "198.51.100.1", 4342, 0.1)

    assert one.answer is not None


def test_reasons_are_bounded_and_none_is_told_twice() -> None:
    one = lookup()
    one.on_timer(0.0)

    for number in range(100):
        on_datagram([one], reply(1000 + number // 2), "198.51.100.1", 4342, 0.1)

    assert len(one.reasons) == 8
    assert len(set(one.reasons)) == 8


def test_a_stray_of_another_resolver_is_not_held_against_the_one_that_was_silent() -> None:
    silent, other = lookup(), Lookup(EID, ETR, Asker((SELF4,), 50000), count(70).__next__, tries=1, timeout_s=2.0)
    for one in (silent, other):
        one.on_timer(0.0)

    on_datagram([silent, other], reply(5), "203.0.113.5", 4342, 0.1)

    assert (len(silent.reasons), len(other.reasons)) == (0, 1)


def test_a_private_address_is_named_when_a_public_resolver_stays_silent() -> None:
    public = ip_address("9.9.9.9")
    one = Lookup(EID, public, Asker((ip_address("192.168.1.5"),), 5), count().__next__, tries=1, timeout_s=1.0)
    one.on_timer(0.0)
    one.on_timer(1.0)

    assert "private address 192.168.1.5" in one.reasons[1].text


def test_json_has_every_field_of_the_answer_and_of_each_locator() -> None:
    locators = (Locator(ETR, is_local=True), Locator(SELF4, 2, 50, is_reachable=False), Locator(SELF6, 255, 0))

    shown = as_json(answered(*locators), {SELF4})

    answer = shown["answer"]
    assert (answer["nonce"], answer["source"], answer["answered_by"]) == (
        "0x0000000000000007",
        str(RESOLVER),
        "map-resolver",
    )
    assert (answer["rtt_ms"], answer["records"][0]["ttl_min"], answer["records"][0]["action"]) == (
        12.3,
        10,
        "no-action",
    )
    assert [locator["state"] for locator in answer["records"][0]["locators"]] == ["up", "down", "unused"]
    assert [locator["is_ours"] for locator in answer["records"][0]["locators"]] == [False, True, False]
    assert json.loads(json.dumps(shown)) == shown


def test_people_read_who_answered_and_the_state_of_every_locator() -> None:
    one = answered(Locator(ETR, is_local=True), Locator(SELF4, 254, 0), source="203.0.113.5")
    assert one.answer is not None

    text = "\n".join(answer_lines(one, one.answer, ()))

    assert "from 203.0.113.5 (an ETR) in 12.3 ms" in text
    assert "nonce   0x0000000000000007" in text
    assert "TTL 10 minutes, not authoritative, no-action" in text
    assert "L local, R reachable" in text
    assert [line.split()[1] for line in text.splitlines()[-2:]] == ["up", "rtr"]


def test_a_negative_answer_says_where_the_packets_go() -> None:
    one = lookup()
    one.on_timer(0.0)
    on_datagram([one], reply(7, action=Action.NATIVELY_FORWARD), "198.51.100.1", 4342, 0.1)
    assert one.answer is not None

    text = " ".join(" ".join(answer_lines(one, one.answer, ())).split())

    assert "no locators: natively-forward, its packets leave without LISP" in text


@pytest.mark.parametrize(
    ("over", "unasked", "code"),
    [
        ([answered(Locator(ETR))], [], 0),
        ([answered()], [], 4),
        ([lookup()], [], 1),
        ([answered(Locator(ETR)), lookup()], [], 0),
        ([answered(), lookup()], [], 4),
        ([answered(Locator(ETR))], [Unasked(EidPrefix.parse("10.9.0.1/32"), RESOLVER, Reason("no-route", ""))], 1),
        ([], [], 1),
    ],
)
def test_the_best_answer_to_an_eid_counts_and_of_the_eids_the_worst(
    over: list[Lookup], unasked: list[Unasked], code: int
) -> None:
    assert lig.exit_code(over, unasked) == code


def test_the_own_eids_come_from_lispds_status_with_its_best_locator_first() -> None:
    registration = {"map_server": "198.51.100.1"}
    node = read_status(
        {
            "eids": [{"prefix": "10.1.0.1/32", "registrations": [registration, registration]}],
            "locators": [{"address": "203.0.113.5", "priority": 2}, {"address": "192.0.2.9", "priority": 1}],
        }
    )

    assert (node.eids, node.resolvers) == ((EidPrefix.parse("10.1.0.1/32"),), (RESOLVER,))
    assert node.locators == (SELF4, ETR)
    assert node.eid_addresses == {ip_address("10.1.0.1")}


def test_the_map_resolvers_of_lispd_are_asked_and_not_its_map_servers_where_they_differ() -> None:
    eids = [{"prefix": "10.1.0.1/32", "registrations": [{"map_server": "198.51.100.1"}]}]

    assert read_status({"eids": eids, "locators": [], "map_resolvers": ["203.0.113.5"]}).resolvers == (ETR,)


def test_the_own_eids_come_from_the_configuration_when_lispd_is_off(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    path.write_text(
        "eids: [10.1.0.1/32]\nmap-servers: [{address: 198.51.100.1, key: k}]\nmap-resolvers: [203.0.113.5]\n"
    )
    path.chmod(0o600)

    assert read_configuration(path).resolvers == (ETR,)
    assert "no such file" in read_configuration(tmp_path / "none").why_not


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["self"], 3, "no EID of this host is known"),
        (["10.1.0.2"], 3, "no Map-Resolver is known; name one with -m"),
        (["10.1.0.2/33", "-m", "127.0.0.1"], 2, "is not an EID"),
        (["[7]10.1.0.2", "-i", "8", "-m", "127.0.0.1"], 2, "do not go together"),
        (["10.1.0.2", "-m", "127.0.0.1", "-s", "203.0.113.99"], 2, "no address of this host"),
        (["10.1.0.2", "-m", "fe80::1%lo"], 2, "an address with a zone"),
        (["10.1.0.2", "-m", "no.such.host.invalid"], 2, "neither an address nor a name"),
    ],
)
def test_what_cannot_be_asked_is_said_with_its_exit_code(
    words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ["--socket", str(tmp_path / "none.sock"), "--config", str(tmp_path / "none.conf")]

    assert lig.main([*words, *nowhere]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["10.1.0.2", "-c", "0"], ["10.1.0.2", "-t", "x"], ["10.1.0.2", "-i", "16777216"], []]
)
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        lig.main(words)

    assert ended.value.code == 2


def test_it_imports_nothing_that_makes_it_late() -> None:
    """An answer comes one round trip and a few tens of milliseconds after the start."""
    code = "import sys, lispmob.tools.lig; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    heavy = {"asyncio", "yaml", "logging", "subprocess", "inspect", "ast", "lispmob.config.node", "lispmob.api.schema"}
    assert heavy & set(done.stdout.split()) == set()


NAMED = DistinguishedName(b"Alice-Laptop")
OTK, KEY, VOUCHED = bytes(range(16)), b"the key of the site", EidPrefix.parse("10.1.0.0/24")


def test_a_name_is_asked_for_as_an_eid_of_its_own_kind_and_answered_whatever_its_case() -> None:
    one = Lookup(NAMED, RESOLVER, Asker((SELF4,), 50000), count(7).__next__, tries=1, timeout_s=2.0)

    ecm, request = asked(one.on_timer(0.0))
    on_datagram([one], reply(7, Locator(EID.address)), "198.51.100.1", 4342, 0.1)
    record = name_record(b"alice-laptop", [EID.address], ttl_min=5)
    on_datagram([one], MapReply(7, (record,)).encode(), "198.51.100.1", 4342, 0.1)

    assert (request.records[0].eid, ecm.destination) == (NAMED, RESOLVER)
    assert [reason.kind for reason in one.reasons] == ["wrong-eid"]
    assert one.answer is not None
    assert as_json(one, ())["answer"]["records"][0]["eid"] == "alice-laptop"


class Wrap:
    """Key wrap that reverses octets: only how a Map-Server opens it matters here."""

    def wrap(self, key: bytes, secret: bytes) -> bytes:
        return secret + key[:8]

    def unwrap(self, key: bytes, wrapped: bytes) -> bytes | None:
        return wrapped[:16] if wrapped[16:] == key[:8] else None


def protected(eid: EidPrefix = EID) -> Lookup:
    protection = Protection(registration_secret(KEY, 3), EidPrefix.parse("10.1.0.9/32"), Wrap(), lambda: OTK)
    made = Lookup(eid, RESOLVER, Asker((SELF4,), 5), count(7).__next__, tries=1, timeout_s=2.0, protection=protection)
    assert made.wake_at() == 0.0
    return made


def signed(record: MappingRecord, *, vouched: EidPrefix = VOUCHED, key: bytes = OTK, has_e_bit: bool = False) -> bytes:
    """The answer of a Map-Server that has opened the One-Time-Key (RFC 9303, 6.7 and 6.8)."""
    ad = EidAuthentication(
        HKDF_SHA_256,
        HMAC_SHA_256_128,
        (AuthorizedEid(vouched.address, vouched.mask_len),),
        has_e_bit=has_e_bit,
    )
    eids = lisp_sec_auth.sign_eids(ad, key).encode()
    return lisp_sec_auth.sign_reply(MapReply(7, (record,)), eids, HMAC_SHA_256_128, lisp_sec_auth.ms_otk(key, 2))


def test_a_protected_question_names_an_eid_of_ours_and_its_key_opens_with_the_registration_key_alone() -> None:
    ecm, request = asked(protected().on_timer(0.0))

    assert ecm.authentication is not None
    security = EcmSecurity.take(Reader(ecm.authentication))
    secrets = [lisp_sec_auth.resolver_secret(key) for key in (KEY, b"another")]
    opened = [lisp_sec_auth.unwrapped_otk(Wrap(), request.nonce, secret, security) for secret in secrets]
    assert (opened, security.key_id, str(request.source_eid)) == ([OTK, None], 3, "10.1.0.9")


def test_a_genuine_answer_says_what_the_map_server_vouches_for() -> None:
    one = protected()
    one.on_timer(0.0)

    on_datagram([one], signed(MappingRecord.of(EID, [Locator(ETR)])), "198.51.100.1", 4342, 0.1)

    assert one.answer is not None
    shown = as_json(one, ())["answer"]
    assert (shown["is_genuine"], shown["vouched"]) == (True, ["10.1.0.0/24"])
    assert "the Map-Server vouches for 10.1.0.0/24" in "\n".join(answer_lines(one, one.answer, ()))


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (reply(7, Locator(ETR)), "sec-missing"),
        (signed(MappingRecord.of(EID, [Locator(ETR)]), key=bytes(16)), "sec-forged"),
        (
            signed(MappingRecord.of(EID, [Locator(ETR)]), vouched=EidPrefix.parse("10.2.0.0/16")),
            "sec-overclaim",
        ),
    ],
)
def test_what_lisp_sec_does_not_prove_is_named_and_the_genuine_answer_still_counts(datagram: bytes, kind: str) -> None:
    one = protected()
    one.on_timer(0.0)

    on_datagram([one], datagram, "198.51.100.1", 4342, 0.1)
    named = [reason.kind for reason in one.reasons]
    on_datagram([one], signed(MappingRecord.of(EID, [Locator(ETR)])), "198.51.100.1", 4342, 0.2)

    assert named == [kind]
    assert one.answer is not None


def test_an_etr_that_cannot_sign_is_told_apart_from_an_unregistered_eid() -> None:
    one = protected()
    one.on_timer(0.0)

    on_datagram([one], signed(MappingRecord.of(EID, action=Action.DROP), has_e_bit=True), "198.51.100.1", 4342, 0.1)

    assert [reason.kind for reason in one.reasons] == ["sec-unsigned"]
    assert one.answer is not None
    assert "no ETR of the EID can sign" in " ".join(" ".join(answer_lines(one, one.answer, ())).split())


def test_a_silence_under_lisp_sec_says_that_the_key_may_be_another() -> None:
    one = protected()
    one.on_timer(0.0)
    one.on_timer(2.0)

    assert [reason.kind for reason in one.reasons] == ["timeout", "sec-unanswered"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "alice", "--lisp-sec"], "not for names"),
        (["-n", "alice", "-i", "7"], "names have no Instance-ID"),
        (["-n", "al\x01ice"], "no name of RFC 9735"),
        (["10.1.0.2", "--lisp-sec"], "there is no such file; give one by --key-file"),
        (["10.1.0.2", "--key-file", "/nowhere/key"], "cannot read the key in /nowhere/key"),
    ],
)
def test_a_name_or_a_key_that_cannot_be_used_is_exit_code_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ["-m", "127.0.0.1", "--socket", str(tmp_path / "none.sock"), "--config", str(tmp_path / "none.conf")]

    assert lig.main([*words, *nowhere]) == 2
    assert said in capsys.readouterr().err


def test_the_secret_of_a_map_resolver_in_the_configuration_wins_over_the_one_of_its_map_server(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    path.write_text(
        "eids: [10.1.0.1/32]\nmap-servers: [{address: 198.51.100.1, key: k, key-id: 2}]\n"
        "map-resolvers: [198.51.100.1, {address: 203.0.113.5, key: own}]\n"
    )
    path.chmod(0o600)

    found = secrets_of(load_node(path))

    assert found == {RESOLVER: registration_secret(b"k", 2), ETR: Secret(b"own")}


def test_without_lispd_the_map_resolvers_of_its_configuration_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    path.write_text("eids: [10.1.0.1/32]\nmap-servers: [{address: localhost, key: a}]\n")

    assert ip_address("127.0.0.1") in read_configuration(path).resolvers


def test_an_unknown_name_leaves_no_map_resolver(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    path.write_text("eids: [10.1.0.1/32]\nmap-servers: [{address: hub.invalid, key: a}]\n")

    assert read_configuration(path).resolvers == ()
