"""What sealing keeps in the state directory: our own key, and what is known of the keys of peers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lispmob.config.static_key import load_static_key
from lispmob.control.sealing.peer_keys import KeptKey
from lispmob.lispd.sealing.seal_state import SealMemory, has_aes, seal_tools
from lispmob.wire.address import EidPrefix
from tests.crypto.support import ciphers, needs_libcrypto

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
EID = EidPrefix.parse("10.1.0.1/32")
VIRTUAL = EidPrefix.parse("[7]2001:db8::1/128")


@needs_libcrypto
def test_the_static_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    said: list[str] = []
    first = load_static_key(tmp_path / "state", ciphers(), said.append)
    again = load_static_key(tmp_path / "state", ciphers(), said.append)

    assert first == again
    assert stat.S_IMODE((tmp_path / "state" / "static-key").stat().st_mode) == 0o600
    assert said == []


@needs_libcrypto
@pytest.mark.parametrize("content", [b"", b"no hex", b"00" * 31, b"\xff\xfe"])
def test_a_static_key_file_that_holds_none_is_replaced_and_that_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "static-key").write_bytes(content)
    said: list[str] = []
    drawn = load_static_key(tmp_path, ciphers(), said.append)

    assert len(said) == 1
    assert load_static_key(tmp_path, ciphers(), said.append) == drawn


@needs_libcrypto
def test_a_directory_that_cannot_be_written_leaves_a_key_for_as_long_as_the_process_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []

    assert load_static_key(tmp_path / "file" / "state", ciphers(), said.append).public
    assert said


@needs_libcrypto
def test_the_times_of_handshakes_grow_over_restarts(tmp_path: Path) -> None:
    first, again = seal_tools(tmp_path), seal_tools(tmp_path)
    assert first is not None
    before = first.next_timestamp()
    assert again is not None
    assert before < first.next_timestamp()
    assert again.next_timestamp() > before


def test_the_keys_of_others_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = {EID: KeptKey(ONE, has_been_sealed=True), VIRTUAL: KeptKey(TWO)}
    SealMemory(tmp_path).save_keys(kept)
    SealMemory(tmp_path).save_times({ONE: 7, TWO: 1 << 62})

    assert SealMemory(tmp_path).load_keys() == kept
    assert list(SealMemory(tmp_path).load_keys()) == [EID, VIRTUAL], "the oldest first"
    assert SealMemory(tmp_path).load_times() == {ONE: 7, TWO: 1 << 62}


def test_lines_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "peer-keys").write_text(
        f"\n10.1.0.1/32\nno prefix {ONE.hex()}\n10.1.0.1/32 00\n{VIRTUAL} {TWO.hex()}\n"
    )
    (tmp_path / "peer-times").write_text(f"x 1\n{ONE.hex()} x\n{TWO.hex()} 5\n")

    assert SealMemory(tmp_path).load_keys() == {VIRTUAL: KeptKey(TWO)}
    assert SealMemory(tmp_path).load_times() == {TWO: 5}


def test_a_state_directory_that_was_lost_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = SealMemory(tmp_path / "file" / "state")
    memory.save_keys({EID: KeptKey(ONE)})

    assert memory.load_keys() == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags\t\t: fpu aes avx\n", True),
        ("flags\t\t: fpu avx\n", False),
        ("Features\t: fp asimd aes\n", True),
        ("Features\t: fp asimd\n", False),
        ("model name : unknown\n", True),
    ],
)
def test_a_processor_without_aes_offers_chacha20_alone(tmp_path: Path, text: str, found: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_aes(tmp_path / "cpuinfo") is found
