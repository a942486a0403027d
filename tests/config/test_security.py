"""lispd.conf on sealed data: the keys of peers, and settings that contradict each other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lispmob.config.node import NodeFile, load_node
from lispmob.errors import ConfigError
from lispmob.lispd.assembly import node_config
from lispmob.wire.address import EidPrefix
from lispmob.wire.key_record import KeyRecord
from tests.crypto.support import needs_libcrypto

MINIMAL = "eids: [10.1.0.1/32]\nmap-servers: [{address: 198.51.100.7, key: secret}]\n"
KEY = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


def read(tmp_path: Path, text: str) -> NodeFile:
    path = tmp_path / "lispd.conf"
    path.touch(mode=0o600)
    path.write_text(MINIMAL + text)
    return load_node(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text)
    return str(refused.value)


def test_keys_of_peers_reach_the_core(tmp_path: Path) -> None:
    file = read(tmp_path, f'peers: [{{eids: [10.2.0.7/32, "2001:db8::7/128"], public-key: {KEY}}}]\n')
    made = node_config(file, bytes(16), static_key=bytes(32))

    assert (made.seal, made.key_record) == ("prefer", KeyRecord((bytes(32),)))
    assert {(str(pinned_key.prefix), pinned_key.key.hex()) for pinned_key in made.pinned_keys} == {
        ("10.2.0.7/32", KEY),
        ("2001:db8::7/128", KEY),
    }


def test_without_a_key_of_our_own_nothing_is_sealed_or_said(tmp_path: Path) -> None:
    made = node_config(read(tmp_path, ""), bytes(16))
    assert (made.seal, made.key_record) == ("off", None)


def test_a_node_with_sealing_off_announces_no_key(tmp_path: Path) -> None:
    made = node_config(read(tmp_path, "security: {seal: off}\n"), bytes(16), static_key=bytes(32))
    assert (made.seal, made.key_record) == ("off", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("security: {seal: always}\n", "security.seal"),
        (f"peers: [{{eids: [10.2.0.7/32], public-key: {KEY[:-2]}}}]\n", "64 hexadecimal digits"),
        (f"peers: [{{eids: [], public-key: {KEY}}}]\n", "at least one EID-Prefix"),
        (f"peers: [{{eids: [10.2.0.7/32, 10.2.0.7/32], public-key: {KEY}}}]\n", "listed twice"),
        (f"peers: [{{eids: [10.1.0.1/32], public-key: {KEY}}}]\n", "in our own EID-Prefix"),
        ("peers: [{eids: [10.2.0.7/32]}]\n", "public-key"),
        ("security: {seal: require}\nlog: {record: yes}\n", "log.record"),
    ],
)
def test_what_cannot_be_meant_is_an_error_at_its_place(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_required_in_a_build_without_libcrypto_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lispmob.crypto._lispcrypto", None)  # as in a build without it
    assert "security.seal: 'require' cannot be kept" in refusal(tmp_path, "security: {seal: require}\n")


@needs_libcrypto
def test_required_is_kept(tmp_path: Path) -> None:
    made = node_config(read(tmp_path, "security: {seal: require}\n"), bytes(16), static_key=bytes(32))
    assert made.seal == "require"
    assert made.eids == (EidPrefix.parse("10.1.0.1/32"),)
