"""lispd.conf: its schema, its rules, and the file that is shipped."""

from __future__ import annotations

import logging
import re
import tempfile
import typing
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lispmob.config.doubts import doubts
from lispmob.config.node import NodeFile, load_node
from lispmob.config.reader import Section, read_bytes
from lispmob.config.steering import FLOW_CLASSES
from lispmob.config.values import Text
from lispmob.errors import ConfigError
from lispmob.flow.quality import FlowClass
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Algorithm, Key

SHIPPED = Path(__file__).parents[2] / "conf" / "lispd.conf"
MINIMAL = """\
eids:
  - 192.0.2.7/32
map-servers:
  - address: 198.51.100.1
    key: s3cret
"""


def read(text: str) -> NodeFile:
    return read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path("/etc/lispmob"))


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def test_an_eid_a_map_server_and_a_key_are_all_that_is_needed() -> None:
    node = read(MINIMAL)

    assert node.eids == (EidPrefix.parse("192.0.2.7/32"),)
    assert node.map_servers[0].address == ip_address("198.51.100.1")
    assert node.map_servers[0].to_key() == Key(b"s3cret", 0, Algorithm.HMAC_SHA_256_128, False)
    assert node.resolvers == (ip_address("198.51.100.1"),)


def test_map_resolvers_replace_the_map_servers_as_the_ones_to_ask() -> None:
    assert read(MINIMAL + "map-resolvers: [203.0.113.1]").resolvers == (ip_address("203.0.113.1"),)


def test_an_eid_has_a_short_and_a_long_form() -> None:
    text = MINIMAL.replace(
        "- 192.0.2.7/32", "- {prefix: 2001:db8::7/128, instance-id: 9}\n  - '[8]10.0.0.1/32'\n  - 10.0.0.2"
    )

    assert [str(eid) for eid in read(text).eids] == ["[9]2001:db8::7/128", "[8]10.0.0.1/32", "10.0.0.2/32"]


def test_a_locator_has_a_short_and_a_long_form() -> None:
    node = read(MINIMAL + "proxy-etrs:\n  - 203.0.113.1\n  - address: 203.0.113.2\n    priority: 5\n    weight: 0\n")

    assert [(str(e.address), e.priority, e.weight) for e in node.proxy_etrs] == [
        ("203.0.113.1", 1, 100),
        ("203.0.113.2", 5, 0),
    ]


def test_every_key_can_be_set() -> None:
    node = read(
        """\
eids: [192.0.2.7/32]
map-servers:
  - {address: 198.51.100.1, key: a, key-id: 3, algorithm: hmac-sha-1-96, digest: truncated, proxy-reply: no}
proxy-etrs: [203.0.113.9]
proxy-itrs: [203.0.113.9]
uplinks: [{name: "wlan*", use: no}, {name: eth0, priority: 0, weight: 255}, {type: wwan, metered: yes}]
addresses: {temporary: yes, deprecated: yes}
routing: {mode: full, overlay-prefixes: [10.0.0.0/8], fallback: proxy}
tun: {name: lisp7, mtu: 1400}
map-cache: {limit: 100, static: [{prefix: 10.9.0.0/16, locators: [203.0.113.5]}]}
register: {interval: 30s, ttl: 2m, xtr-id: 000102030405060708090a0b0c0d0e0f, site-id: 0000000000000001}
control: {socket: /tmp/x.sock, group: users}
log: {level: debug}
state-dir: state
"""
    )

    assert node.map_servers[0].to_key() == Key(b"a", 3, Algorithm.HMAC_SHA_1_96, True)
    assert node.map_servers[0].proxy_reply is False
    assert [(rule.name, rule.use, rule.priority, rule.weight) for rule in node.uplinks] == [
        ("wlan*", False, None, None),
        ("eth0", None, 0, 255),
        (None, None, None, None),
    ]
    assert [rule.type for rule in node.uplinks] == [None, None, "wwan"]
    assert (node.register.interval_s, node.register.ttl_min) == (30, 2)
    assert node.register.xtr_id == bytes(range(16))
    assert node.register.site_id == bytes(7) + b"\x01"
    assert node.tun.mtu_bytes == 1400
    assert str(node.map_cache.static[0].prefix) == "10.9.0.0/16"
    assert node.state_dir == Path("/etc/lispmob/state")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("eids: []\nmap-servers: [{address: 1.2.3.4, key: a}]", "1:7: eids: at least one EID-Prefix is needed"),
        ("eids: [10.0.0.1]\nmap-servers: []", "2:14: map-servers: at least one Map-Server is needed, or"),
        (
            "eids: [10.0.0.1, 10.0.0.1]\nmap-servers: [{address: 1.2.3.4, key: a}]",
            "1:18: eids[1]: 10.0.0.1/32 is listed",
        ),
        (MINIMAL + "  - {address: 198.51.100.1, key: b}", "6:15: map-servers[1].address: 198.51.100.1 is listed twice"),
        (MINIMAL + "routing: {fallback: proxy}", "6:21: routing.fallback: 'proxy' needs at least one entry"),
        (MINIMAL + "map-resolvers: [192.0.2.7]", "6:17: map-resolvers[0]: 192.0.2.7 lies in our own EID-Prefix"),
        (MINIMAL + "register: {ttl: 90s}", "6:17: register.ttl: a record's time to live counts whole minutes"),
        (MINIMAL + "    key-file: x", "No such file"),
        (MINIMAL.replace("key: s3cret", "key-id: 1"), "4:5: map-servers[0]: give the shared key: 'key'"),
        (MINIMAL + "tun: {mtu: 1000}", "tun.mtu: 1000 is not 1280 to 65535"),
        (MINIMAL + "tun: {name: ../x}", "is not an interface name"),
        (MINIMAL + "routing: {mode: both}", "routing.mode: both is not split or full"),
        (
            MINIMAL + "uplinks:\n  - {name: eth0}\n  - {type: wlan}",
            "lispd.conf:8:12: uplinks[1].type: wlan is not ethernet, wifi, wwan, usb,",
        ),
        (
            MINIMAL + "uplinks: [{use: no}]",
            "6:11: uplinks[0]: 'name', 'type' or 'network' is needed, to say which interfaces",
        ),
        (MINIMAL + "register: {xtr-id: 00ff}", "00ff is not 32 hexadecimal digits"),
    ],
)
def test_a_rule_that_is_broken_is_named_at_its_place(text: str, why: str) -> None:
    assert why in complaint(text)


def test_a_node_may_live_on_static_mappings_alone() -> None:
    assert read("eids: [10.0.0.1]\nmap-servers: []\nmap-cache: {static: [{prefix: 10.0.0.2}]}").resolvers == ()


def test_an_inline_key_that_every_user_can_read_is_warned_about_with_what_keeps_it_readable_for_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name, caplog.at_level(logging.WARNING):
        path = Path(name) / "lispd.conf"
        path.parent.chmod(0o755)
        path.write_text(MINIMAL)
        path.chmod(0o644)
        load_node(path)
        path.chmod(0o640)
        load_node(path)
        path.chmod(0o644)
        path.parent.chmod(0o750)
        load_node(path)

    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.startswith(f"every user can read the key in {path}; run: ch")
    assert f"chmod 640 {path}, or use 'key-file'" in warning


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("198.51.100.1:4342", "write 198.51.100.1 alone"),
        ("'[2001:db8::1]:4342'", "write 2001:db8::1 alone"),
        ("192.0.2", "is not the address or host name of one host"),
        ("hub.example.org:4342", "write hub.example.org alone"),
        ("hub:4342", "write hub alone"),
        ("'::ffff:198.51.100.1'", "write 198.51.100.1"),
    ],
)
def test_a_map_server_with_a_port_or_half_an_address_is_refused_with_what_to_write(address: str, words: str) -> None:
    assert words in complaint(MINIMAL.replace("198.51.100.1", address))


def test_a_map_server_that_is_a_bare_address_is_shown_as_lines_and_a_bare_secret_is_not_shown() -> None:
    text = "eids: [192.0.2.7/32]\nmap-servers:\n  - {}\n"

    assert "write 'address: 198.51.100.1'" in complaint(text.format("198.51.100.1"))
    assert "2001:db8::1" in complaint(text.format("2001:db8::1"))
    assert "secret" not in complaint(text.format("secret-word"))


@pytest.mark.parametrize(
    ("written", "meant"), [("wlan", "wifi"), ("lte", "wwan"), ("wired", "ethernet"), ("ethernt", "ethernet")]
)
def test_a_type_by_another_name_is_refused_with_ours(written: str, meant: str) -> None:
    assert f"did you mean '{meant}'?" in complaint(MINIMAL + f"uplinks: [{{type: {written}}}]\n")


def test_a_mode_with_a_slip_is_refused_with_what_was_meant() -> None:
    assert "did you mean 'split'?" in complaint(MINIMAL + "routing: {mode: splt}\n")
    assert "did you mean" not in complaint(MINIMAL + "routing: {mode: xyzzy}\n")


# --- the shipped file -------------------------------------------------------------------------------------------------


def uncommented(text: str) -> str:
    """The shipped file with every commented default switched on, without the examples."""
    lines, in_example = [], False
    for line in text.splitlines():
        shown = re.fullmatch(r"( *)# ( *[a-z0-9-]+:(?: .*)?)", line)
        is_nested = line.startswith("#   ")
        if re.fullmatch(r" *# .*[Ee]xample.*:|# .*form.*:", line):
            in_example = True
        elif line.endswith("# example") or (in_example and is_nested):
            continue
        elif shown is not None and not line.rstrip().endswith((".", ",")):
            in_example = False
            lines.append(shown[1] + shown[2])
        elif not line.lstrip().startswith("#"):
            in_example = False
            lines.append(line)
    return "\n".join(lines) + "\n"


def test_an_eid_says_what_uplinks_count_for_it_and_the_first_match_decides() -> None:
    text = MINIMAL.replace(
        "- 192.0.2.7/32",
        "- {prefix: 192.0.2.7/32, uplinks: [{name: wwan0, weight: 9}, {name: 'wwan*', priority: 5, weight: 10}]}\n"
        "  - 2001:db8::7/128",
    )

    special, plain = read(text).own_eids

    assert special.rank("wwan0", 1, 100) == (1, 9)
    assert special.rank("wwan1", 1, 100) == (5, 10)
    assert special.rank("eth0", 1, 100) == plain.rank("wwan0", 1, 100) == (1, 100)


@pytest.mark.parametrize(
    ("uplinks", "says"),
    [
        ("[{name: a, priority: 256}]", "eids[0].uplinks[0].priority: 256 is not 0 to 255"),
        ("[{name: a}]", "eids[0].uplinks[0].name: a priority or a weight is needed"),
        ("[{priority: 1}]", "eids[0].uplinks[0]: the key 'name' is missing"),
        ("[{name: a, cost: 1}]", "eids[0].uplinks[0].cost: unknown key; known here: name, priority, weight"),
        ("[{name: a, weight: 1}, {name: a, weight: 2}]", "eids[0].uplinks[1].name: a is listed twice"),
    ],
)
def test_a_wrong_rule_of_an_eid_is_named_by_line_and_key(uplinks: str, says: str) -> None:
    text = complaint(MINIMAL.replace("- 192.0.2.7/32", f"- {{prefix: 192.0.2.7/32, uplinks: {uplinks}}}"))

    assert text.startswith("lispd.conf:2:")
    assert says in text


def test_the_shipped_file_loads_as_it_is_and_its_key_is_the_first_thing_that_is_odd_about_it() -> None:
    node = load_node(SHIPPED)

    assert str(node.eids[0]) == "192.0.2.7/32"
    assert doubts(node)[0].key == "key-example"


def test_a_rule_may_be_about_flows_to_names() -> None:
    rule = "{name: calls, flow: Voice*, class: [voice, video], via: [eth0]}"

    (read_rule,) = read(MINIMAL + f"steering: {{rules: [{rule}]}}").steering.to_policy().rules

    assert (read_rule.selector.flow_name, read_rule.selector.flow_classes) == ("voice*", ("voice", "video"))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("class: [fast]", "default, voice, video"),
        ('flow: ""', "a flow's name"),
        ("flow: x, from-interface: br0", "no flow of this host"),
        ("flow: x, via: [eth0], otherwise: drop", "needs 'unusable-mark: drop'"),
    ],
)
def test_a_rule_about_flows_that_cannot_be_is_refused(rule: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(MINIMAL + f"steering: {{rules: [{{name: calls, {rule}}}]}}")


def test_the_classes_of_rules_are_those_of_flows() -> None:
    assert tuple(flow_class.name.lower() for flow_class in FlowClass) == FLOW_CLASSES


def test_the_defaults_that_the_shipped_file_shows_are_those_of_the_schema() -> None:
    shown = uncommented(SHIPPED.read_text())

    assert read(shown) == read(SHIPPED.read_text())
    assert set(keys_set(shown)) >= {path for path in schema_keys(NodeFile) if "[]" not in path}


def test_the_shipped_file_shows_every_key_of_the_schema() -> None:
    text = SHIPPED.read_text()

    for path in schema_keys(NodeFile):
        key = path.rpartition(".")[2]
        assert re.search(rf"(^|[ #{{-]){key}:", text, re.MULTILINE), path


def test_the_examples_of_the_shipped_file_load_too() -> None:
    text = SHIPPED.read_text()
    for name in ("map-resolvers", "uplinks", "proxy-etrs", "proxy-itrs"):
        example = re.search(rf"# {name}: \[\]\n# Example:\n((?:#   .*\n)+)", text)
        assert example is not None, name
        lines = [line[1:] for line in example[1].splitlines()]

        read(MINIMAL + f"{name}:\n" + "\n".join(lines))


def schema_keys(schema: type[Section], prefix: str = "") -> list[str]:
    """Every key of the schema as a path; [] stands for the entries of a list."""
    found = []
    hints = typing.get_type_hints(schema, include_extras=True)
    for field in msgspec.structs.fields(schema):
        path = prefix + field.encode_name
        found.append(path)
        hint = hints[field.name]
        if typing.get_origin(hint) is tuple:
            path, hint = path + "[]", typing.get_args(hint)[0]
        extras = getattr(hint, "__metadata__", ())
        nested = extras[0].mapping if extras and isinstance(extras[0], Text) else hint
        if isinstance(nested, type) and issubclass(nested, Section):
            found += schema_keys(nested, path + ".")
    return found


def keys_set(text: str) -> list[str]:
    """The keys that a file sets, as paths; lists are not entered."""
    found: list[str] = []
    top = ""
    for line in text.splitlines():
        if match := re.match(r"^( *)([a-z0-9-]+):", line):
            top = match[2] if not match[1] else top
            found.append(match[2] if not match[1] else f"{top}.{match[2]}")
    return found


@settings(max_examples=200)
@given(st.data())
def test_a_shipped_file_with_a_damaged_line_is_read_or_a_config_error(data: st.DataObject) -> None:
    lines = uncommented(SHIPPED.read_text()).splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    cut = data.draw(st.integers(0, len(lines[index])))
    lines[index] = lines[index][:cut] + data.draw(st.text(max_size=8)) + lines[index][cut + 1 :]
    try:
        node = read("\n".join(lines))
    except ConfigError:
        return
    assert isinstance(node, NodeFile)
