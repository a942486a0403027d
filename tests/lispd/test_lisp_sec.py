"""LISP-SEC as a user meets it: the configuration, the problems, and why there is no mapping."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lispmob.config.node import NodeFile, load_node
from lispmob.config.reader import read_yaml
from lispmob.control.itr_security import LispSecTools
from lispmob.control.node_config import NodeConfig
from lispmob.datapath.ask import FlowVerdict
from lispmob.errors import ConfigError
from lispmob.hub.config import load_hub
from lispmob.lispd import assembly
from lispmob.lispd.explain.lost import why_lost, why_refused
from lispmob.lispd.lisp_sec import lisp_sec_problems
from lispmob.node.node import Node
from lispmob.problems.problem import Severity
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import InstallMapping, RemoveMapping, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire import lisp_sec_auth
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.lisp_sec import AuthorizedEid, EcmSecurity, EidAuthentication
from lispmob.wire.lisp_sec_auth import resolver_secret
from lispmob.wire.map_reply import MapReply
from lispmob.wire.reader import Reader
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import ip, only, prefix, request_in
from tests.crypto.support import KEY_WRAP, needs_libcrypto

PEER = prefix("10.99.0.2/32")
RESOLVER = ip("198.51.100.1")
MINIMAL = "eids: [10.99.0.1/32]\nmap-servers: [{address: 198.51.100.1, key: secret, key-id: 2}]\n"
HUB = "sites: [{name: a, eids: [10.99.0.1/32], key: secret}]\nstate-file: none\n"


def read(tmp_path: Path, text: str) -> NodeFile:
    path = tmp_path / "lispd.conf"
    path.write_text(text)
    path.chmod(0o600)
    return load_node(path)


def config(tmp_path: Path, more: str = "", *, has_key_wrap: bool = True) -> NodeConfig:
    return assembly.node_config(read(tmp_path, MINIMAL + more), bytes(16), has_key_wrap=has_key_wrap)


def node(made: NodeConfig) -> Node:
    tools = LispSecTools(KEY_WRAP, lambda: bytes(16))
    one = Node(made, new_nonce=count(1).__next__, jitter=lambda: 0.5, lisp_sec=tools)
    one.on_locators([LocalLocator(ip("192.0.2.7"), 2, "wlan0")], 0.0)
    return one


def parts(file: NodeFile, one: Node, now: float = 1.0) -> Any:
    return cast(Any, SimpleNamespace(file=file, node=one, now=lambda: now))


def test_preferred_is_the_default_and_a_map_server_s_secret_follows_from_its_key(tmp_path: Path) -> None:
    made = config(tmp_path)

    assert made.lisp_sec == "prefer"
    assert [(str(where), one.octets, one.key_id) for where, one in made.resolver_secrets] == [
        ("198.51.100.1", resolver_secret(b"secret"), 2)
    ]
    assert [server.has_lisp_sec for server in made.map_servers] == [True]


@pytest.mark.parametrize("more", ["security: {lisp-sec: off}\n", ""])
def test_off_and_a_build_without_libcrypto_are_the_same_to_others(tmp_path: Path, more: str) -> None:
    made = config(tmp_path, more, has_key_wrap=bool(more))

    assert (made.lisp_sec, made.resolver_secrets) == ("off", ())
    assert [server.has_lisp_sec for server in made.map_servers] == [False]


def test_a_map_resolver_s_own_key_comes_before_what_follows_from_another(tmp_path: Path) -> None:
    made = config(
        tmp_path, "map-resolvers: [198.51.100.1, {address: 198.51.100.9, key: own, key-id: 7}, 198.51.100.8]\n"
    )

    assert [str(where) for where in made.map_resolvers] == ["198.51.100.1", "198.51.100.9", "198.51.100.8"]
    assert [(str(where), one.key_id) for where, one in made.resolver_secrets] == [
        ("198.51.100.1", 2),
        ("198.51.100.9", 7),
    ]
    assert dict(made.resolver_secrets)[ip("198.51.100.9")].octets == b"own"


@needs_libcrypto
def test_an_old_map_server_is_not_tried_with_what_it_may_not_survive_unless_required(tmp_path: Path) -> None:
    old = MINIMAL.replace("key-id: 2", "algorithm: hmac-sha-1-96")
    preferred, required = (read(tmp_path, old + f"security: {{lisp-sec: {mode}}}\n") for mode in ("prefer", "require"))

    assert assembly.resolver_secrets(preferred) == ()
    assert len(assembly.resolver_secrets(required)) == 1


@needs_libcrypto
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("map-resolvers: [198.51.100.8]\n", "map-resolvers[0]: 198.51.100.8 needs 'key' or 'key-file'"),
        ("natt: {direct: yes}\n", "natt.direct: it asks without LISP-SEC"),
        ("map-resolvers: [{address: 198.51.100.8, key: a, key-file: b}]\n", "key-file"),
    ],
)
def test_required_and_impossible_is_a_configuration_error_at_its_place(tmp_path: Path, more: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, MINIMAL + "security: {lisp-sec: require}\n" + more)

    assert words in str(refused.value)


def test_required_in_a_build_without_libcrypto_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lispmob.crypto._lispcrypto", None)  # as in a build without it
    (tmp_path / "hub.conf").write_text(HUB + "security: {lisp-sec: require}\n")

    with pytest.raises(ConfigError, match=r"'require' cannot be kept: LISP-SEC is not in this build"):
        read(tmp_path, MINIMAL + "security: {lisp-sec: require}\n")
    with pytest.raises(ConfigError, match=r"'require' cannot be kept: LISP-SEC is not in this build"):
        load_hub(tmp_path / "hub.conf")
    (problem,) = lisp_sec_problems(parts(read(tmp_path, MINIMAL), node_without_security(tmp_path)))
    assert (problem.key, problem.severity) == ("no-key-wrap", Severity.NOTICE)


def test_a_node_that_records_says_that_it_proves_nothing_and_refuses_where_proof_is_required(tmp_path: Path) -> None:
    file = read(tmp_path, MINIMAL + "log: {record: yes}\n")

    (problem,) = lisp_sec_problems(parts(file, node_without_security(tmp_path)))

    assert (problem.key, problem.severity) == ("lisp-sec-recording", Severity.NOTICE)
    with pytest.raises(ConfigError, match=r"log\.record"):
        read(tmp_path, MINIMAL + "log: {record: yes}\nsecurity: {lisp-sec: require}\n")


def node_without_security(tmp_path: Path) -> Node:
    return Node(config(tmp_path, has_key_wrap=False), new_nonce=count(1).__next__, jitter=lambda: 0.5)


@needs_libcrypto
def test_what_is_refused_is_a_problem_and_the_reason_for_a_lost_packet_until_it_is_over(tmp_path: Path) -> None:
    file = read(tmp_path, MINIMAL + "security: {lisp-sec: require}\n")
    one = node(assembly.node_config(file, bytes(16), has_key_wrap=True))
    one.on_mapping_added(PEER, (), Action.DROP, 0.0)

    assert lisp_sec_problems(parts(file, one)) == ()
    one.security.on_unsigned(PEER, RESOLVER, 0.0)

    (problem,) = lisp_sec_problems(parts(file, one))
    assert (problem.key, problem.severity) == ("lisp-sec-unsigned", Severity.DEGRADED)
    assert problem.what == "there is no mapping for 10.99.0.2/32"
    assert "cannot sign" in why_lost(FlowVerdict.DROP, PEER.address, PEER, one, 1.0)
    assert lisp_sec_problems(parts(file, one, now=1000.0)) == ()
    assert "static" in why_lost(FlowVerdict.DROP, PEER.address, PEER, one, 1000.0)


def asked_by(one: Node) -> SendControl:
    """The Map-Request that a packet to the peer causes."""
    return only(one.on_miss(ip("10.99.0.1"), PEER.address, 0, 0.0), SendControl)[0]


def answers_of(sent: SendControl) -> dict[str, bytes]:
    """Answers by the problem that they cause: of a hub without LISP-SEC, of an attacker, and of a lying ETR."""
    request = request_in(sent)
    authentication = EncapsulatedControl.decode(sent.payload).authentication
    assert authentication is not None
    security = EcmSecurity.take(Reader(authentication))
    otk = lisp_sec_auth.unwrapped_otk(KEY_WRAP, request.nonce, resolver_secret(b"secret"), security)
    assert otk is not None
    wide = MappingRecord.of(prefix("10.99.0.0/16"), (Locator(ip("203.0.113.66")),))
    eids = lisp_sec_auth.sign_eids(EidAuthentication(2, 2, (AuthorizedEid(PEER.address, 32),)), otk).encode()
    reply = MapReply(request.nonce, (wide,))
    return {
        "no-lisp-sec": reply.encode(),
        "lisp-sec-forged": lisp_sec_auth.sign_reply(reply, eids, 2, bytes(16)),
        "lisp-sec-overclaim": lisp_sec_auth.sign_reply(reply, eids, 2, lisp_sec_auth.ms_otk(otk, 2)),
    }


@needs_libcrypto
@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ("no-lisp-sec", "sec_missing", "have no LISP-SEC"),
        ("lisp-sec-forged", "sec_hmac", "are forged, or changed on the path"),
        ("lisp-sec-overclaim", "sec_prefix", "its ETR answers for more than the Map-Server lets it"),
    ],
)
def test_each_answer_that_is_not_genuine_is_counted_named_and_leads_nowhere(
    tmp_path: Path, key: str, counter: str, words: str
) -> None:
    file = read(tmp_path, MINIMAL + "security: {lisp-sec: require}\n")
    one = node(assembly.node_config(file, bytes(16), has_key_wrap=True))
    payload = answers_of(asked_by(one))[key]

    effects = one.on_datagram(Datagram(payload, RESOLVER, 4342, ip("192.0.2.7")), 0.1)

    assert only(effects, InstallMapping) == []
    assert one.counters[counter] == 1
    assert [problem.key for problem in lisp_sec_problems(parts(file, one))] == [key]
    assert words in str(why_refused(PEER.address, 0, one, 1.0))


@needs_libcrypto
def test_what_was_learned_before_proof_was_required_goes_with_the_reload(tmp_path: Path) -> None:
    one = node(config(tmp_path, "security: {lisp-sec: off}\n"))
    record = MappingRecord.of(PEER, (Locator(ip("203.0.113.5")),))
    reply = MapReply(request_in(asked_by(one)).nonce, (record,))
    one.on_datagram(Datagram(reply.encode(), RESOLVER, 4342, ip("192.0.2.7")), 0.1)
    assert [entry.is_genuine for entry in one.map_cache] == [False]

    effects = one.on_config(config(tmp_path, "security: {lisp-sec: require}\n"), 1.0)

    assert [gone.prefix for gone in only(effects, RemoveMapping)] == [PEER]
    assert list(one.map_cache) == []


@needs_libcrypto
def test_required_and_only_an_rtr_asks_is_told(tmp_path: Path) -> None:
    file = read(tmp_path, MINIMAL + "security: {lisp-sec: require}\n")
    one = node(assembly.node_config(file, bytes(16), has_key_wrap=True))
    relayed = SimpleNamespace(security=one.security, plan=SimpleNamespace(asks_mapping_system=False))

    (problem,) = lisp_sec_problems(parts(file, cast(Any, relayed)))

    assert problem.key == "lisp-sec-relayed"


@needs_libcrypto
def test_a_hub_has_the_same_choice_and_secrets_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "hub.conf"
    path.write_text(
        "sites: [{name: a, eids: [10.99.0.1/32], key: secret, map-resolver-keys: [{key: own, key-id: 7}]}]\n"
        "map-servers: [{address: 203.0.113.9, eids: [], key: shared, key-id: 3}]\n"
        "security: {lisp-sec: require}\n"
    )
    hub = load_hub(path)

    assert hub.security.lisp_sec == "require"
    assert [(secret.octets, secret.key_id) for secret in hub.to_sites()[0].resolver_secrets] == [(b"own", 7)]
    (remote,) = hub.to_remotes()
    assert remote.secret is not None
    assert (remote.secret.octets, remote.secret.key_id) == (b"shared", 3)
    path.write_text(HUB)
    assert load_hub(path).security.lisp_sec == "prefer"


def test_a_word_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    path.write_text(MINIMAL + "security: {lisp-sec: always}\n")

    with pytest.raises(ConfigError, match="off, prefer or require"):
        read_yaml(path, NodeFile)
