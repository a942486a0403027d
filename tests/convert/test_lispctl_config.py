"""lispctl config: what it prints, what it writes, and its exit codes. No lispd runs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from lispmob.config.node import NodeFile, load_node
from lispmob.config.reader import read_bytes
from lispmob.config.secrecy import advice
from lispmob.convert.command import interface_of
from lispmob.hub.config import HubFile
from lispmob.lispctl.main import main
from lispmob.wire.address import parse_ip

ROOT = Path(__file__).resolve().parents[2]
OLD = Path(__file__).resolve().parent / "old"
SECRET = "seldom-seen"
NODE = f"""\
eids:
  - 192.0.2.7/32
  - {{prefix: 2001:db8::7/128, instance-id: 5, uplinks: [{{name: "wwan*", priority: 9}}]}}
map-servers: [{{address: 198.51.100.1, key: {SECRET}, xtr-id: no}}]
uplinks: [{{name: "*", use: no}}, {{type: wwan, cost: 7}}]
routing: {{overlay-prefixes: [192.0.2.0/24], fallback: drop}}
register: {{interval: 90s, ttl: 2h, site-id: "0000000000000007"}}
natt: {{keepalive: 20s}}
flows: {{enabled: yes, keys: [{{name: us, with: [192.0.2.0/24], key-id: 1, key: {SECRET}-and-long-enough}}]}}
"""


def config(*words: str) -> int:
    return main(["--socket", "/nowhere/lispd.sock", "config", *words])


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "lispd.conf"
    path.write_text(NODE)
    path.chmod(0o600)
    return path


def test_a_conversion_writes_the_file_and_its_key_readable_by_their_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lispd.conf"

    assert config("convert", str(OLD / "12-android-app.conf"), "-o", str(out)) == 0

    key = tmp_path / "lispd-map-server-1.key"
    assert {path.name for path in tmp_path.iterdir()} == {out.name, key.name}
    assert [stat.S_IMODE(path.stat().st_mode) & 0o037 for path in (out, key)] == [0, 0]
    assert load_node(out).map_servers[0].secret.octets == b"secret-12"
    assert f"{out}: good" in capsys.readouterr().err


def test_nothing_that_is_there_is_replaced_unless_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, old = tmp_path / "lispd.conf", str(OLD / "12-android-app.conf")
    (tmp_path / "lispd-map-server-1.key").write_text("mine")

    assert config("convert", old, "-o", str(out)) == 1
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert not out.exists()
    assert config("convert", old, "-o", str(out), "--force") == 0
    assert (tmp_path / "lispd-map-server-1.key").read_bytes() == b"secret-12\n"


def test_on_standard_output_there_is_no_key_and_something_is_left_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code = config("convert", str(OLD / "12-android-app.conf"))

    printed = capsys.readouterr()
    assert code == 4
    assert "secret-12" not in printed.out + printed.err
    assert ":9: the key is not printed" in printed.err
    assert printed.out.startswith("# lispd.conf, made from ")


def test_a_key_of_ones_own_and_an_address_for_a_name_complete_a_conversion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, out = tmp_path / "new.key", tmp_path / "made.conf"
    key.write_text("new")
    key.chmod(0o600)
    names = [f"--address={name}.rloc.example.net=198.51.100.77" for name in ("ms", "pxtr")]
    own = f"--key-file=ms.rloc.example.net={key}"

    assert config("convert", str(OLD / "02-first-release.conf"), "-o", str(out), *names, own) == 0

    assert load_node(out).map_servers[0].secret.octets == b"new"
    assert str(load_node(out).map_servers[0].address) == "198.51.100.77"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convert", "/nowhere/old.conf"], "/nowhere/old.conf: cannot read the file: No such file"),
        (["convert", str(OLD / "12-android-app.conf"), "--address", "x"], "--address x: NAME=VALUE is expected"),
        (["convert", str(OLD / "12-android-app.conf"), "--address", "x=y"], "y is no address"),
        (["convert", str(OLD / "12-android-app.conf"), "-o", "/nowhere/x.conf"], "cannot write /nowhere/"),
        (["convert", str(ROOT / "conf" / "lispd.conf")], "a lispmob file already"),
        (["show", str(OLD / "12-android-app.conf")], "where 'key: value' lines are expected"),
    ],
)
def test_what_cannot_be_done_is_exit_code_1_and_a_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config(*words) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["lispd.conf", "hub.conf"])
def test_the_shipped_files_are_good(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("check", str(ROOT / "conf" / name)) == 0
    assert capsys.readouterr().out.endswith(f"{name}: good\n")


def test_every_mistake_of_a_file_of_ours_is_told_with_line_and_key(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(NODE.replace("drop", "dropp").replace("90s", "90y").replace("eids:\n", "eidz: []\neids:\n"))

    assert config("check", str(conf)) == 78

    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{conf}:").split(": ")[:2] for line in lines] == [
        ["1:1", "eidz"],
        ["7:55", "routing.fallback"],
        ["8:22", "register.interval"],
    ]


def test_what_is_allowed_and_hardly_meant_is_a_note(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text(NODE.replace(SECRET, "CHANGE-ME", 1))

    assert config("check", str(conf)) == 0
    assert "note: the key for Map-Server 198.51.100.1 is the example's" in capsys.readouterr().err


def test_a_key_that_every_user_can_read_and_a_loose_site_are_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hub.conf"
    path.write_text("sites: [{name: a, eids: [192.0.2.0/24], key: CHANGE-ME, strict-nonces: auto}]\n")
    path.chmod(0o644)

    assert config("check", str(path)) == 0
    said = capsys.readouterr().err
    assert "note: site a has the key of the example" in said
    assert "note: site a: old registrations of nodes that never count are accepted" in said
    assert ("every user can read the keys" in said) == (advice(path) is not None)


def test_every_mistake_of_an_old_file_is_told_for_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert config("check", str(OLD / "09-container.conf"), "--json") == 78

    found = json.loads(capsys.readouterr().out)
    assert found["language"] == "confuse"
    assert [(finding["line"], finding["kind"]) for finding in found["findings"]] == [(2, "mistake"), (10, "mistake")]


def test_the_lines_that_are_to_blame_are_told_when_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "example.conf"
    path.write_text("map-resolver = { 198.51.100.1 }\ndatabase-mapping {\n    eid-prefix = <prefix>\n}\n")

    assert config("check", str(path)) == 78
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{path}:3: database-mapping: eid-prefix: the example's placeholder is not an EID-Prefix")
    assert last == f"{path}: no EID can be found in it (database-mapping)"


@pytest.mark.parametrize(
    "name", ["03-by-family.conf", "11-two-locators.uci", "13-lispers.config", "07-map-server.conf"]
)
def test_an_old_file_without_mistakes_is_good(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("check", str(OLD / name)) == 0
    assert ": good (" in capsys.readouterr().out


def test_what_takes_effect_is_shown_with_defaults_and_without_keys(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("show", str(conf)) == 0

    shown = capsys.readouterr().out
    assert SECRET not in shown
    assert "# key: (not shown)" in shown
    assert "  when-stopped: native" in shown
    assert "  interval: 90s" in shown


def test_what_is_shown_reads_as_the_same_configuration(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config("show", str(conf))
    shown = capsys.readouterr().out.replace("# key: (not shown)", f"key: {SECRET}-and-long-enough")
    conf.write_text(NODE.replace(f"key: {SECRET},", f"key: {SECRET}-and-long-enough,"))

    again = read_bytes(shown.encode(), "shown", NodeFile, directory=conf.parent)

    assert again == load_node(conf)


def test_the_hub_is_shown_too_and_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hub.conf"
    path.write_text(f"sites: [{{name: a, eids: [192.0.2.0/24], key: {SECRET}}}]\nrtr: {{enabled: yes}}\n")

    assert config("show", str(path), "--json") == 0
    shown = capsys.readouterr().out
    assert SECRET not in shown
    assert json.loads(shown)["configuration"]["rtr"] == {"enabled": "yes", "map-servers": [], "tier": "auto"}
    assert config("show", str(path)) == 0
    text = capsys.readouterr().out.replace("# key: (not shown)", f"key: {SECRET}")
    assert read_bytes(text.encode(), "x", HubFile, directory=tmp_path) == read_bytes(
        path.read_bytes(), "x", HubFile, directory=tmp_path
    )


def test_the_interface_that_has_an_address_is_found_on_this_host() -> None:
    assert interface_of(parse_ip("127.0.0.1")) in ("lo", None)  # None where the program ip is missing
    assert interface_of(parse_ip("192.0.2.254")) is None


def test_programs_get_a_conversion_as_json_without_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = config("convert", "--json", str(OLD / "12-android-app.conf"), "-o", str(tmp_path / "lispd.conf"))
    printed = capsys.readouterr().out
    told = json.loads(printed)

    assert (code, told["is_for"], told["is_complete"]) == (0, "lispd.conf", True)
    assert told["text"] == (tmp_path / "lispd.conf").read_text()
    assert told["key_files"] == ["lispd-map-server-1.key"]
    assert {remark["kind"] for remark in told["remarks"]} <= {"note"}
    assert "secret-12" not in printed


def test_a_conversion_that_leaves_something_to_do_says_so_to_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    code = config("convert", "--json", str(OLD / "04-mobile-node.conf"))
    told = json.loads(capsys.readouterr().out)

    assert (code, told["is_complete"]) == (4, False)
    assert any(remark["kind"] != "note" and remark["line"] for remark in told["remarks"])
