"""lispctl for operators: wait, log-level, bugreport, energy, believed."""

from __future__ import annotations

import json
import logging
import os
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lispmob.api.upkeep.belief_schema import Believed, Correspondent, MappingSystemBelief
from lispmob.config.node import load_node
from lispmob.config.shown import NOT_SHOWN, section_tree
from lispmob.errors import LispError
from lispmob.lispctl.main import main
from lispmob.lispctl.upkeep import bugreport
from tests.api.conftest import Ctl
from tests.api.fake_backend import Served


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger; its settings are restored after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


# --- wait


def test_wait_ends_when_it_is_so(ctl: Ctl, daemon: Served) -> None:
    daemon.backend.told_state = "registered"

    assert ctl("wait registered --timeout 5") == "registered: registered, working\n"
    assert json.loads(ctl("wait working --json")) == {
        "state": "registered",
        "verdict": "working",
        "headline": "working",
    }


def test_wait_goes_on_until_it_is_so(ctl: Ctl, daemon: Served) -> None:
    later = threading.Timer(0.3, lambda: setattr(daemon.backend, "told_state", "registered"))
    later.start()

    assert ctl("wait registered --timeout 20").startswith("registered")
    later.join()


@pytest.mark.parametrize(("state", "verdict"), [("partly-registered", "working"), ("registered", "degraded")])
def test_wait_tells_by_6_that_the_time_is_over_and_how_things_are(
    ctl: Ctl, daemon: Served, state: str, verdict: str
) -> None:
    daemon.backend.told_state, daemon.backend.verdict, daemon.backend.headline = state, verdict, "half of it"  # type: ignore[assignment]

    assert ctl("wait working --timeout 0", 6) == f"lispctl: not working after 0 s: {state}, half of it\n"


def test_wait_waits_for_lispd_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "later.sock"
    one = Served(path)
    one.backend.told_state = "registered"
    later = threading.Timer(0.3, one.start)
    later.start()

    assert main(["--socket", str(path), "wait", "registered", "--timeout", "20"]) == 0
    later.join()
    one.end()
    assert main(["--socket", str(path), "wait", "registered", "--timeout", "0"]) == 3
    assert "not running" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["wait", "wait ready", "wait working --timeout x", "wait working --timeout -1"])
def test_wait_refuses_what_cannot_be_meant(ctl: Ctl, words: str) -> None:
    ctl(words, 2)


# --- log-level


def test_the_log_level_is_shown_and_set_until_the_next_reload(ctl: Ctl, root_logger: logging.Logger) -> None:
    root_logger.setLevel("INFO")

    assert ctl("log-level") == "info\n"
    assert ctl("log-level debug") == "debug until the next reload; lispd.conf says info\n"
    assert root_logger.level == logging.DEBUG
    assert json.loads(ctl("log-level --json")) == {"level": "debug", "configured": "info"}
    ctl("log-level loud", 2)


# --- bugreport


def test_the_archive_has_every_view_and_what_the_kernel_says(ctl: Ctl, tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"

    said = json.loads(ctl(f"bugreport -o {path} --json"))

    assert said["path"] == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        status = archive.extractfile(next(name for name in archive.getnames() if name.endswith("lispd/status.json")))
        assert status is not None
        assert json.load(status)["version"] == "0.1.0"
    views = {f"lispd/{view}.json" for view in (*bugreport.VIEWS, "events")}
    assert names == {"README.txt", *views, *bugreport.COMMANDS, *bugreport.FILES}


def test_what_cannot_be_had_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    hangs = (sys.executable, "-c", "import sys; print('half'); sys.stderr.write('no'); sys.exit(3)")

    def refuse() -> str:
        raise LispError("only root may do this")

    found = iter(
        [
            ("none.txt", lambda: bugreport.output_of(("no-such-command-here",))),
            ("half.txt", lambda: bugreport.output_of(hangs)),
            ("denied.txt", refuse),
            ("long.txt", lambda: "a" * bugreport.PART_MAX + "end"),
        ]
    )

    missing = bugreport.write(str(path), "root", found)

    assert missing == {"none.txt": "there is no no-such-command-here", "denied.txt": "only root may do this"}
    with tarfile.open(path) as archive:
        texts = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            texts[member.name] = file.read()
    assert texts["root/half.txt"] == b"half\n\n[exit code 3] no"
    assert texts["root/denied.txt"] == b"only root may do this"
    assert len(texts["root/long.txt"]) == bugreport.PART_MAX
    assert texts["root/long.txt"].endswith(b"aend")


def test_an_archive_never_replaces_what_is_there(ctl: Ctl, tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "report.tar.gz", tmp_path / "precious"
    elsewhere.write_text("precious")
    path.symlink_to(elsewhere)

    assert "File exists" in ctl(f"bugreport -o {path}", 1)
    assert elsewhere.read_text() == "precious"


def test_the_configuration_that_is_shown_has_every_key_but_no_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("in-a-file")
    os.chmod(tmp_path / "key", 0o600)
    conf = tmp_path / "lispd.conf"
    conf.write_text(
        "eids: [10.0.0.1, '[7]10.7.0.0/16']\n"
        "map-servers: [{address: 198.51.100.1, key: s3cret}, {address: 198.51.100.2, key-file: key}]\n"
        "steering: {mask: 0xff, rules: [{name: web, protocol: [tcp], ports: [80, 8000-8080], via: [eth0]}]}\n"
        "flows: {enabled: yes, keys: [{name: office, with: [10.0.0.0/8], key: 0123456789-s3cret}]}\n"
    )
    conf.chmod(0o600)

    made = section_tree(load_node(conf))
    text = json.dumps(made)

    assert "s3cret" not in text
    assert "in-a-file" not in text
    assert [server.get("key") for server in made["map-servers"]] == [NOT_SHOWN, None]
    assert [server.get("key-file") for server in made["map-servers"]] == [None, NOT_SHOWN]
    assert made["map-servers"][0]["address"] == "198.51.100.1"
    assert made["flows"]["keys"][0]["key"] == NOT_SHOWN
    assert made["eids"] == ["10.0.0.1/32", "[7]10.7.0.0/16"]
    assert made["steering"]["rules"][0]["via"] == ["eth0"]
    assert made["steering"]["mask"] == "0xff"


# --- energy


def test_what_control_messages_cost_is_shown_by_the_hour(ctl: Ctl) -> None:
    lines = ctl("energy").splitlines()
    (one,) = json.loads(ctl("energy --json"))["costs"]

    assert lines[1].split() == ["wlan0", "registers", "and", "keepalives", "36", "0", "1.2", "36"]
    assert "a path that dies while nothing is sent over it is noticed within 40 seconds" in " ".join(lines)
    assert (one["uplink"], one["purpose"], one["octets_per_hour"]) == ("wlan0", "register", 36 * 32)


# --- believed


def test_what_is_believed_is_shown_and_0_when_it_is_so(ctl: Ctl) -> None:
    assert ctl("believed") == (
        "The mapping system\n"
        "  192.0.2.1 about 10.0.0.1/32: right: 198.51.100.10 (1/100) (after 12.3 ms)\n"
        "\n"
        "Correspondents, by where their data comes in\n"
        "  203.0.113.5 (10.2.0.0/16): sends to 198.51.100.10, 2.0s ago\n"
    )


@pytest.mark.parametrize(
    ("asked", "seen", "said"),
    [
        (
            {"answer": "record", "differences": ["192.0.2.9 is not one of our locators"]},
            None,
            "wrong: 192.0.2.9 is not one of our locators",
        ),
        ({"answer": "silent"}, None, "no answer"),
        (
            None,
            {"verdict": "late", "sends_to": "192.0.2.9", "ago_s": 1.0, "better": ["192.0.2.8"]},
            "better now: 192.0.2.8",
        ),
    ],
)
def test_what_is_believed_wrongly_is_exit_code_8(
    daemon: Served,
    capsys: pytest.CaptureFixture[str],
    asked: dict[str, Any] | None,
    seen: dict[str, Any] | None,
    said: str,
) -> None:
    daemon.backend.parts.believing.believed = Believed(
        mapping_system=[]
        if asked is None
        else [MappingSystemBelief(map_resolver="192.0.2.1", eid="10.0.0.1/32", **asked)],
        correspondents=[] if seen is None else [Correspondent(rloc="203.0.113.5", eid="10.2.0.0/16", **seen)],
    )

    assert main(["--socket", str(daemon.path), "believed"]) == 8
    assert said in " ".join(capsys.readouterr().out.split())


def test_what_needs_no_doubt_is_no_reason_to_fail(ctl: Ctl, daemon: Served) -> None:
    ask = [
        MappingSystemBelief(map_resolver="192.0.2.1", eid="10.0.0.1/32", answer="forwards", forwarded_to="192.0.2.9"),
        MappingSystemBelief(map_resolver="192.0.2.2", eid="10.0.0.1/32", answer="cannot-ask"),
        MappingSystemBelief(map_resolver="192.0.2.3", eid="10.0.0.1/32", answer="negative"),
    ]
    quiet = [Correspondent(rloc="203.0.113.5", eid="10.2.0.0/16", verdict="not-heard")]
    daemon.backend.parts.believing.believed = Believed(mapping_system=ask, correspondents=quiet)

    text = " ".join(ctl("believed").split())

    assert "it has us answer ourselves, at 192.0.2.9" in text
    assert "works without an RTR" in text
    assert "nothing within the last minute" in text
    assert len(json.loads(ctl("believed --json"))["mapping_system"]) == 3
