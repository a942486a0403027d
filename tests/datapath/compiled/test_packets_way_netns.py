"""How many files a packet of the tun tier passes: what a newcomer has to open to follow it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path, PurePath
from typing import Final

import pytest

from lispmob.datapath import sealing
from lispmob.datapath.build_ffi import C_DIRECTORY, C_FLAGS, CRYPTO_FLAGS, CRYPTO_LINKS, DIRECTORY, sources

pytestmark = [
    pytest.mark.netns,  # loopback as uplink (SO_BINDTODEVICE) needs root, and a namespace of its own
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

ROOT = Path(__file__).parents[3]
MOST: Final = 15
WORDS: Final = "base"  # addresses, hashes, counters, locks: what all other folders use


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(function, file below c/) from the read of a batch to the next query of the clock, in the order of entry."""
    program = tmp_path_factory.mktemp("way") / "trace_packet"
    crypto, links = (CRYPTO_FLAGS, CRYPTO_LINKS) if sealing.can_seal() else ((), ())
    flags = [flag for flag in C_FLAGS if not flag.startswith("-O")]
    headers = (f"-I{ROOT / C_DIRECTORY}", f"-I{ROOT / DIRECTORY}")
    files = [str(ROOT / source) for source in sources()]
    driver = str(Path(__file__).with_name("trace_packet.c"))
    how = ("-g", "-O0", "-no-pie", "-finstrument-functions", "-pthread")
    subprocess.run(["gcc", *flags, *crypto, *how, *headers, driver, *files, "-o", str(program), *links], check=True)
    inside = ["unshare", "--net", "sh", "-c", f"ip link set lo up; exec {program}"]
    addresses = subprocess.run(inside, capture_output=True, text=True, check=True, timeout=60).stdout
    read = ["addr2line", "-f", "-e", str(program)]
    lines = subprocess.run(read, input=addresses, capture_output=True, text=True, check=True).stdout.splitlines()
    places = [line.rpartition(f"{C_DIRECTORY}/")[2].partition(":")[0] for line in lines[1::2]]
    entered = list(zip(lines[::2], places, strict=True))
    names = [name for name, _ in entered]
    return entered[names.index("serve") : names.index("next_look")]


def test_a_packet_passes_few_files(way: list[tuple[str, str]]) -> None:
    files = {PurePath(place).with_suffix("").as_posix() for _, place in way}
    stations = sorted(file for file in files if not file.startswith(f"{WORDS}/"))

    assert len(stations) <= MOST, stations


def test_the_packet_was_read_looked_up_encapsulated_and_sent(way: list[tuple[str, str]]) -> None:
    names = [name for name, _ in way]
    story = ["lm_device_read", "lm_packet_parse", "lm_table_lookup_many", "lm_uplinks_choose", "lm_lisp_header_write"]

    assert [name for name in names if name in story] == story
    assert names.index("lm_lisp_header_write") < names.index("lm_on_sent")


def test_what_follows_from_a_packet_that_has_left_is_in_one_place() -> None:
    """The sender calls one function; liveness/on_sent.h has all that follows from it."""
    notes = ("lm_silence_on_sent(", "lm_path_proven(", "lm_peer_check_on_sent(", "lm_data_port_stall_sent(")
    room = ROOT / C_DIRECTORY / "engine"
    callers = {
        path.name
        for path in room.glob("*.c")
        for note in notes
        if any(note in line and line.startswith(" ") for line in path.read_text().splitlines())
    }

    assert callers == set()
