"""What `lispctl join` writes: a hub's answer is only data in it, and lispd accepts the file."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.config.node import load_node
from lispmob.errors import ConfigError
from lispmob.joining.exchange import Joined, Settings
from lispmob.joining.files import FileRefused, MayNotWrite, PrivateFile
from lispmob.joining.node_file import is_example, node_text, with_settings

HUB = (ip_address("198.51.100.1"), ip_address("2001:db8::1"))
SHIPPED = Path(__file__).resolve().parents[2] / "conf" / "lispd.conf"


def joined(**more: object) -> Joined:
    settings = {
        "name": "laptop",
        "eids": ("10.99.0.1/32", "fd00:99::1/128"),
        "overlay_prefixes": ("10.99.0.0/24", "fd00:99::/64"),
        **more,
    }
    return Joined(Settings(**settings), b"0123456789abcdef")  # type: ignore[arg-type]


def test_lispd_takes_it_with_every_address_of_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    with PrivateFile(path) as file:
        assert (
            file.put(node_text(joined(lisp_sec="require"), HUB, "2026-11-28", Path("/x/s")), load_node, ".old") is None
        )

    node = load_node(path)

    assert [str(eid) for eid in node.eids] == ["10.99.0.1/32", "fd00:99::1/128"]
    assert [(server.address, server.key) for server in node.map_servers] == [
        (address, node.map_servers[0].key) for address in HUB
    ]
    assert node.map_servers[0].to_key().secret == b"0123456789abcdef"
    assert list(map(str, node.routing.overlay_prefixes)) == ["10.99.0.0/24", "fd00:99::/64"]
    assert (node.security.lisp_sec, str(node.control.socket)) == ("require", "/x/s")
    assert path.stat().st_mode & 0o777 == 0o640


@given(st.text(max_size=80), st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_what_a_hub_says_adds_no_line_and_no_key(name: str, eids: list[str]) -> None:
    told = joined(name=name, eids=tuple(eids), overlay_prefixes=tuple(eids), domain=f"x{name}", lisp_sec=name)
    text = node_text(told, HUB, "2026-11-28")

    begins = [line.split(":")[0].strip(" -#") for line in text.split("\n")]
    assert begins[2:] == [
        "eids",
        "map-servers",
        "address",
        "key",
        "address",
        "key",
        "routing",
        "overlay-prefixes",
        "names",
        "",
    ]
    assert text.isascii()


def test_other_settings_change_two_lines_of_a_file_that_join_wrote_and_nothing_else() -> None:
    text = node_text(joined(), HUB, "2026-11-28") + "uplinks: [{name: wlan0, priority: 1}]  # mine\n"
    now = joined(eids=("10.99.0.1/32",), overlay_prefixes=("10.0.0.0/8",)).settings

    changed = with_settings(text, now)

    assert changed is not None
    assert set(changed.splitlines()) - set(text.splitlines()) == {
        'eids: ["10.99.0.1/32"]',
        '  overlay-prefixes: ["10.0.0.0/8"]',
    }
    assert with_settings(changed, now) == changed
    assert with_settings(SHIPPED.read_text(), now) is None
    assert with_settings(text.replace("eids: [", "eids:   ["), now) is None


def test_the_domain_and_lisp_sec_of_the_hub_come_change_and_go(tmp_path: Path) -> None:
    text = node_text(joined(domain="lisp.home.arpa"), HUB, "2026-11-28")

    other = with_settings(text, joined(domain="home.example", lisp_sec="require").settings)
    none = with_settings(other or "", joined().settings)

    (tmp_path / "first").write_text(text)
    (tmp_path / "other").write_text(other or "")
    first, second = load_node(tmp_path / "first"), load_node(tmp_path / "other")
    assert (first.names.domain, first.security.lisp_sec) == ("lisp.home.arpa", "prefer")
    assert (second.names.domain, second.security.lisp_sec) == ("home.example", "require")
    assert none == node_text(joined(), HUB, "2026-11-28")
    assert with_settings(none or "", joined(domain="lisp.home.arpa").settings) == text


@pytest.mark.parametrize("own", ["names: {domain: mine.example}\n", "names:\n  port: 53\n", "names: {port: 53}\n"])
def test_a_section_that_the_user_has_written_stays_as_it_is(own: str) -> None:
    text = node_text(joined(), HUB, "2026-11-28") + own

    assert with_settings(text, joined(domain="lisp.home.arpa").settings) == text


def test_a_file_without_a_last_line_end_stays_yaml_with_a_domain(tmp_path: Path) -> None:
    text = node_text(joined(), HUB, "2026-11-28").rstrip("\n")

    changed = with_settings(text, joined(domain="lisp.home.arpa").settings)

    (tmp_path / "lispd.conf").write_text(changed or "")
    assert load_node(tmp_path / "lispd.conf").names.domain == "lisp.home.arpa"


def test_a_configuration_that_lispd_would_not_take_is_not_put_there(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    path.write_text("mine")

    with pytest.raises(ConfigError), PrivateFile(path) as file:
        file.put(node_text(joined(eids=("everything",)), HUB, "2026-11-28"), load_node, ".old")

    assert [one.name for one in tmp_path.iterdir()] == ["lispd.conf"]
    assert path.read_text() == "mine"


def test_the_file_that_was_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "lispd.conf"
    path.write_text("mine")

    with PrivateFile(path) as file:
        kept = file.put(node_text(joined(), HUB, "2026-11-28"), load_node, ".before-join")

    assert kept is not None
    assert (kept.name, kept.read_text()) == ("lispd.conf.before-join", "mine")


def test_a_place_where_nothing_can_be_written_is_told_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(FileRefused, match=r"Not a directory|File exists"):
        PrivateFile(tmp_path / "file" / "lispd.conf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_who_is_not_root_is_told_to_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(MayNotWrite, match="with sudo"):
        PrivateFile(tmp_path / "lispd.conf")


def test_the_file_as_it_is_shipped_may_be_replaced_and_another_may_not() -> None:
    assert is_example(SHIPPED.read_text())
    assert not is_example(SHIPPED.read_text().replace("CHANGE-ME", "a secret"))
    assert not is_example("# key: CHANGE-ME\n")
