"""The ciphers of sealed packets: every library that works here gives the same, and refuses the same."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from lispmob.datapath import _lispdp, sealing

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

pytestmark = pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto")

KEY, NONCE, DATA = bytes(range(32)), bytes(range(100, 112)), bytes(range(20))
TAG_OCTETS = 16
LONGEST = 2048
GCM, CHACHA = lib.LM_AEAD_AES_128_GCM, lib.LM_AEAD_CHACHA20_POLY1305

# The Galois/Counter Mode of Operation (McGrew and Viega), test case 4.
GCM_KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
GCM_NONCE = bytes.fromhex("cafebabefacedbaddecaf888")
GCM_DATA = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
GCM_TEXT = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657"
    "ba637b39"
)
GCM_SEALED = bytes.fromhex(
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac97"
    "3d58e0915bc94fbc3221a5db94fae95ae7121a47"
)
# RFC 8439, 2.8.2
CHACHA_KEY = bytes(range(0x80, 0xA0))
CHACHA_NONCE = bytes.fromhex("070000004041424344454647")
CHACHA_DATA = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
CHACHA_TEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
CHACHA_SEALED = bytes.fromhex(
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b29"
    "05d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b"
    "61161ae10b594f09e26a7e902ecbd0600691"
)


def libraries() -> Iterator[tuple[str, Any]]:
    number = 0
    while (library := lib.lm_aead_library(number)) != ffi.NULL:
        yield ffi.string(lib.lm_aead_name(library)).decode(), library
        number += 1


class Cipher:
    """One key, sealed with and opened with by one library."""

    def __init__(self, library: Any, aead: int = GCM, key: bytes = KEY) -> None:
        self._sealer, self._opener = (
            ffi.gc(lib.lm_aead_new_by(library, aead, key.ljust(32, b"\0"), seals), lib.lm_aead_free)
            for seals in (True, False)
        )
        assert self._sealer != ffi.NULL
        assert self._opener != ffi.NULL

    def seal(self, *parts: bytes, nonce: bytes = NONCE, data: bytes = DATA) -> bytes:
        out = ffi.new("uint8_t[]", sum(map(len, parts)) + TAG_OCTETS)
        kept = [ffi.new("uint8_t[]", part or b"\0") for part in parts]
        vector = ffi.new("struct iovec[]", [(place, len(part)) for place, part in zip(kept, parts, strict=True)])
        assert lib.lm_aead_seal(self._sealer, nonce, data, len(data), vector, len(parts), out)
        return bytes(ffi.buffer(out))

    def seal_at(self, place: Any, octets: int) -> None:
        """In place; room for the tag follows the text."""
        vector = ffi.new("struct iovec *", (place, octets))
        assert lib.lm_aead_seal(self._sealer, NONCE, DATA, len(DATA), vector, 1, place)

    def open_at(self, place: Any, octets: int) -> bool:
        return bool(lib.lm_aead_open(self._opener, NONCE, DATA, len(DATA), place, octets))

    def open(self, sealed: bytes, nonce: bytes = NONCE, data: bytes = DATA) -> tuple[bool, bytes]:
        """Whether the tag is valid, and what is in the place of the text afterwards."""
        buffer = ffi.new("uint8_t[]", sealed)
        is_good = lib.lm_aead_open(self._opener, nonce, data, len(data), buffer, len(sealed))
        return bool(is_good), bytes(ffi.buffer(buffer, len(sealed)))[:-TAG_OCTETS]


KINDS = [
    pytest.param(library, aead, id=f"{name}, {cipher}")
    for name, library in (libraries() if sealing.can_seal() else ())
    for cipher, aead in (("AES-128-GCM", GCM), ("ChaCha20-Poly1305", CHACHA))
    if ffi.gc(lib.lm_aead_new_by(library, aead, KEY, True), lib.lm_aead_free) != ffi.NULL
]
each_kind = pytest.mark.parametrize(("library", "aead"), KINDS)


def text(octets: int) -> bytes:
    return random.Random(octets).randbytes(octets)


@pytest.mark.parametrize(("name", "library"), [pytest.param(*found, id=found[0]) for found in libraries()])
def test_each_library_seals_and_opens_the_example_of_gcm(name: str, library: Any) -> None:
    cipher = Cipher(library, GCM, GCM_KEY)

    assert cipher.seal(GCM_TEXT, nonce=GCM_NONCE, data=GCM_DATA) == GCM_SEALED
    assert cipher.open(GCM_SEALED, nonce=GCM_NONCE, data=GCM_DATA) == (True, GCM_TEXT)


def test_chacha20_poly1305_is_that_of_the_rfc() -> None:
    cipher = Cipher(lib.lm_aead_library(0), CHACHA, CHACHA_KEY)

    assert cipher.seal(CHACHA_TEXT, nonce=CHACHA_NONCE, data=CHACHA_DATA) == CHACHA_SEALED
    assert cipher.open(CHACHA_SEALED, nonce=CHACHA_NONCE, data=CHACHA_DATA) == (True, CHACHA_TEXT)


@each_kind
def test_every_length_is_sealed_as_libcrypto_seals_it_and_opens(library: Any, aead: int) -> None:
    cipher, reference = Cipher(library, aead), Cipher(lib.lm_aead_library(0), aead)

    for octets in range(LONGEST + 1):
        sealed = cipher.seal(text(octets))
        assert sealed == reference.seal(text(octets)), octets
        assert cipher.open(sealed) == reference.open(sealed) == (True, text(octets)), octets


@each_kind
@pytest.mark.parametrize("octets", [9000, 65_507])
def test_the_largest_packets_are_sealed_alike(library: Any, aead: int, octets: int) -> None:
    cipher, reference = Cipher(library, aead), Cipher(lib.lm_aead_library(0), aead)

    assert cipher.seal(text(octets)) == (sealed := reference.seal(text(octets)))
    assert cipher.open(sealed) == (True, text(octets))


@each_kind
@pytest.mark.parametrize("data", [b"", b"\1", bytes(15), bytes(16), bytes(33), bytes(255)])
def test_associated_data_of_any_length_counts(library: Any, aead: int, data: bytes) -> None:
    cipher, reference = Cipher(library, aead), Cipher(lib.lm_aead_library(0), aead)

    sealed = cipher.seal(text(100), data=data)

    assert sealed == reference.seal(text(100), data=data)
    assert cipher.open(sealed, data=data) == (True, text(100))
    assert cipher.open(sealed, data=data + b"\0") == (False, bytes(100))


@each_kind
@pytest.mark.parametrize("octets", [0, 1, 15, 16, 17, 100, 300])
def test_no_changed_octet_opens_and_no_text_is_left(library: Any, aead: int, octets: int) -> None:
    cipher = Cipher(library, aead)
    sealed = cipher.seal(text(octets))

    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << place % 8
        assert cipher.open(bytes(changed)) == (False, bytes(octets)), place

    assert cipher.open(sealed) == (True, text(octets))


@each_kind
def test_another_nonce_key_or_data_opens_nothing(library: Any, aead: int) -> None:
    cipher = Cipher(library, aead)
    sealed = cipher.seal(text(1400))

    assert cipher.open(sealed, nonce=NONCE[::-1]) == (False, bytes(1400))
    assert cipher.open(sealed, data=DATA[::-1]) == (False, bytes(1400))
    assert Cipher(library, aead, KEY[::-1]).open(sealed) == (False, bytes(1400))


@each_kind
@pytest.mark.parametrize("octets", range(TAG_OCTETS))
def test_what_is_shorter_than_a_tag_does_not_open(library: Any, aead: int, octets: int) -> None:
    buffer = ffi.new("uint8_t[]", 2 * TAG_OCTETS)

    assert not Cipher(library, aead).open_at(buffer, octets)
    assert bytes(ffi.buffer(buffer)) == bytes(2 * TAG_OCTETS)


@each_kind
def test_parts_are_sealed_like_the_whole(library: Any, aead: int) -> None:
    cipher = Cipher(library, aead)
    whole = text(1400)

    for cut in (0, 1, 15, 16, 52, 1399, 1400):
        assert cipher.seal(whole[:cut], whole[cut:]) == cipher.seal(whole), cut
    assert cipher.seal(*(whole[at : at + 100] for at in range(0, 1400, 100))) == cipher.seal(whole)


@each_kind
@pytest.mark.parametrize("octets", [0, 1, 16, 52, 255, 1400])
def test_nothing_beyond_a_packet_is_read_or_written(library: Any, aead: int, octets: int) -> None:
    """The packet ends where memory that may not be touched begins; before it is memory of others."""
    cipher, page = Cipher(library, aead), mmap.PAGESIZE
    with_guard = mmap.mmap(-1, 2 * page)
    place = ctypes.addressof(ctypes.c_char.from_buffer(with_guard))
    assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(place + page), page, 0) == 0, ctypes.get_errno()
    end, start = page, page - octets - TAG_OCTETS
    with_guard[:end] = before = b"\xa5" * end
    with_guard[start : end - TAG_OCTETS] = text(octets)
    at = ffi.cast("uint8_t *", place + start)

    cipher.seal_at(at, octets)

    assert with_guard[:start] == before[:start]
    assert with_guard[start:end] == cipher.seal(text(octets))
    assert cipher.open_at(at, octets + TAG_OCTETS)
    assert with_guard[:start] == before[:start]
    assert with_guard[start : end - TAG_OCTETS] == text(octets)


@each_kind
def test_threads_seal_with_contexts_of_their_own(library: Any, aead: int) -> None:
    expected = Cipher(lib.lm_aead_library(0), aead).seal(text(1400))
    wrong: list[int] = []

    def work(number: int) -> None:
        cipher = Cipher(library, aead)
        wrong.extend(number for _ in range(300) if cipher.seal(text(1400)) != expected)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


CHOSEN: Final = """
from lispmob.datapath import sealing
from tests.datapath.seal.test_aead import *
print(sealing.libraries()["aes-128-gcm"])
print(len(list(libraries())))
assert lib.lm_aead_chosen(CHACHA) == lib.lm_aead_library(0)
assert Cipher(lib.lm_aead_chosen(GCM), GCM, GCM_KEY).seal(GCM_TEXT, nonce=GCM_NONCE, data=GCM_DATA) == GCM_SEALED
"""


def chosen_beside(folder: Path) -> tuple[str, int]:
    """The library that a process chooses where this folder has those that are loaded, and how many it found."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", CHOSEN]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    name, count = done.stdout.split("\n")[:2]
    return name, int(count)


def imitate(folder: Path, version: str, encrypt: str) -> None:
    """A libipsec-mb that does nothing but `encrypt`."""
    arguments = (
        "const void *key, void *state, unsigned char *out, const unsigned char *in, unsigned long octets, "
        "const unsigned char *nonce, const void *data, unsigned long data_octets, unsigned char *tag, "
        "unsigned long tag_octets"
    )
    parts = [f"unsigned imb_get_version(void) {{ return {version}; }}"]
    for variant in ("vaes_avx512", "avx_gen4"):
        parts.append(f"void aes_gcm_pre_128_{variant}(const void *key, void *expanded) {{}}")
        parts += [f"void aes_gcm_{verb}_128_{variant}({arguments}) {{ {encrypt} }}" for verb in ("enc", "dec")]
    path = folder / "libIPSec_MB.so.1"
    command = ["gcc", "-shared", "-fPIC", "-o", str(path), "-x", "c", "-"]
    subprocess.run(command, input="\n".join(parts), text=True, check=True)


needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def test_libcrypto_seals_where_no_other_library_can_be_loaded(tmp_path: Path) -> None:
    for name in ("libIPSec_MB.so.1", "libIPSec_MB.so.2"):
        (tmp_path / name).touch()

    assert chosen_beside(tmp_path) == ("libcrypto", 1)


@needs_gcc
@pytest.mark.parametrize(
    "encrypt",
    [
        "",
        "for (unsigned long i = 0; i < octets; i++) out[i] = in[i] ^ 1;",
        "for (int i = 0; i < 16; i++) tag[i] = 0;",
    ],
)
def test_a_library_that_computes_something_else_is_not_chosen(tmp_path: Path, encrypt: str) -> None:
    imitate(tmp_path, "0x10300", encrypt)

    name, _ = chosen_beside(tmp_path)

    assert name == "libcrypto"


@needs_gcc
@pytest.mark.parametrize("version", ["0", "0x3700", "0x30000", "0xffffffff"])
def test_a_version_with_unknown_structs_is_not_called(tmp_path: Path, version: str) -> None:
    imitate(tmp_path, version, "__builtin_trap();")

    assert chosen_beside(tmp_path) == ("libcrypto", 1)


def test_the_chosen_library_is_one_of_those_that_work_here() -> None:
    chosen = sealing.libraries()

    assert chosen["aes-128-gcm"] in dict(libraries())
    assert chosen["chacha20-poly1305"] == "libcrypto"
