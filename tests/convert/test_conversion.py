"""Old configurations become ours: every form of them, with a remark for each setting without a counterpart."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.config.node import NodeFile, load_node
from lispmob.config.yaml_tree import parse_yaml
from lispmob.convert.conversion import Converted, convert
from lispmob.errors import ConfigError
from lispmob.hub.config import HubFile, load_hub
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm

OLD = Path(__file__).resolve().parent / "old"
FORMS = sorted(OLD.iterdir())
NAMES = {
    "ms.rloc.example.net": ip_address("198.51.100.60"),
    "mr.rloc.example.net": ip_address("198.51.100.61"),
    "pxtr.rloc.example.net": ip_address("203.0.113.92"),
}


def resolve(name: str) -> list[IpAddress]:
    return [NAMES[name]] if name in NAMES else []


def interface_of(address: IpAddress) -> str | None:
    return "eth7" if address == ip_address("198.51.100.3") else None


def converted(form: str | bytes, *, key_stem: str | None = "made", **given: str) -> Converted:
    raw = next(path for path in FORMS if path.name.startswith(form)).read_bytes() if isinstance(form, str) else form
    return convert(
        raw, "old.conf", resolve=resolve, interface_of=interface_of, key_stem=key_stem, key_files=given
    )  # fmt: skip


def loaded(done: Converted, directory: Path) -> NodeFile | HubFile:
    """The result, written as `lispctl config convert -o` does and read as the daemons do; a refused key is replaced."""
    for key_file in done.key_files:
        path = directory / key_file.path
        path.write_bytes(key_file.octets if key_file.octets is not None else b"a new key")
        path.chmod(0o600)
    path = directory / done.kind
    path.write_text(done.text)
    return load_hub(path) if done.kind == "hub.conf" else load_node(path)


def node(form: str | bytes, directory: Path) -> NodeFile:
    file = loaded(converted(form), directory)
    assert isinstance(file, NodeFile)
    return file


def texts(done: Converted, *kinds: str) -> list[str]:
    return [f"{remark.line}: {remark.text}" for remark in done.remarks if remark.kind in kinds]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_every_form_becomes_a_file_that_our_own_reader_takes(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    done = converted(path.name)

    file = loaded(done, tmp_path)

    assert isinstance(file, HubFile if path.name[:2] in ("07", "08") else NodeFile)
    assert all(f"line {remark.line}: " in done.text for remark in done.remarks)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
@pytest.mark.parametrize("key_stem", ["made", None])
def test_no_key_is_ever_in_the_result_or_in_what_is_said(path: Path, key_stem: str | None) -> None:
    done = converted(path.name, key_stem=key_stem)

    assert "secret" not in done.text
    assert "secret" not in repr(done)


def test_a_key_goes_into_a_file_of_its_own_exactly_as_written(tmp_path: Path) -> None:
    keys = {form: node(form, tmp_path).map_servers[0] for form in ("03", "09", "11", "13")}

    assert keys["03"].secret.octets == b"secret-03 with a blank"
    assert keys["09"].secret.octets == b"secret_09-x"
    assert keys["13"].secret.octets == b"secret-13 # and all of it"
    assert keys["11"].to_key().algorithm is Algorithm.HMAC_SHA_1_96
    assert keys["13"].to_key().algorithm is Algorithm.HMAC_SHA_256_128


def test_a_key_that_went_over_the_networks_in_clear_is_refused_and_a_file_is_asked_for() -> None:
    done = converted("01")
    given = converted("01", **{"198.51.100.41": "/etc/lispmob/new.key"})

    (refused,) = texts(done, "refused")
    assert refused.startswith("14: the key is not taken over")
    assert "--key-file 198.51.100.41=PATH" in refused
    assert [key_file.octets for key_file in done.key_files] == [None]
    assert texts(given, "refused") == []
    assert "key-file: /etc/lispmob/new.key" in given.text


@pytest.mark.parametrize("key", [b'""', b'"' + b"k" * 257 + b'"', b"schl\xfcssel"])
def test_a_key_that_cannot_be_taken_over_exactly_is_refused(key: bytes) -> None:
    done = converted(
        b"map-server { address = 198.51.100.9 key = %b }\ndatabase-mapping { eid-prefix = 192.0.2.1/32 }\n" % key
    )

    (refused,) = texts(done, "refused")
    assert "1 to 256 octets of UTF-8" in refused
    assert [key_file.octets for key_file in done.key_files] == [None]


def test_every_one_of_many_keys_has_a_file_of_its_own() -> None:
    site = "lisp-site { eid-prefix = 10.%d.%d.0/24 key = k%d }\n"
    sites = "".join(site % (number // 256, number % 256, number // 2) for number in range(1200))

    done = converted(f"operating-mode = MS\n{sites}".encode())

    assert (
        len({key_file.path for key_file in done.key_files})
        == len({key_file.octets for key_file in done.key_files})
        == 600
    )


def test_what_has_to_be_done_is_told_however_long_the_rest_is() -> None:
    more = "".join(f"strange-{number} = 1\n" for number in range(3000))

    done = converted(f"{more}{(OLD / '01-android.conf').read_text()}".encode())

    assert len(texts(done, "refused")) == 1
    assert len(texts(done, "note")) <= 1001
    assert not done.is_complete


def test_without_a_place_for_files_every_key_is_refused() -> None:
    (refused,) = texts(converted("12", key_stem=None), "refused")

    assert "the key is not printed; with -o FILE it goes into a file of its own" in refused


def test_the_first_android_port_keeps_its_eids_its_interfaces_and_its_proxy(tmp_path: Path) -> None:
    file = node("01", tmp_path)

    assert list(map(str, file.eids)) == ["192.0.2.81/32", "2001:db8:81::1/128"]
    assert [(uplink.name, uplink.priority, uplink.use) for uplink in file.uplinks] == [
        ("eth0", 1, None),
        ("rmnet0", 3, None),
        ("*", None, False),
    ]
    assert [str(proxy_etr.address) for proxy_etr in file.proxy_etrs] == ["203.0.113.91"]
    assert (file.natt.mode, file.probing.enabled, file.log.level) == ("e19", False, "debug")
    assert (file.routing.mode, file.routing.fallback) == ("full", "proxy")


def test_a_name_becomes_the_address_that_dns_says_and_the_file_says_so(tmp_path: Path) -> None:
    file = node("02", tmp_path)

    assert [str(map_server.address) for map_server in file.map_servers] == ["198.51.100.60"]
    assert [str(proxy_etr.address) for proxy_etr in file.proxy_etrs] == ["203.0.113.92"]
    assert "ms.rloc.example.net was 198.51.100.60 when this was written" in converted("02").text
    (static,) = file.map_cache.static
    assert (str(static.prefix), static.locators[0].priority, static.locators[0].weight) == ("192.0.2.160/28", 2, 70)


def test_a_name_that_dns_does_not_know_leaves_something_to_do() -> None:
    raw = (OLD / "02-first-release.conf").read_bytes()

    done = convert(raw, "x", resolve=lambda _: [], interface_of=interface_of, key_stem="made", key_files={})

    assert any("--address ms.rloc.example.net=ADDRESS" in text for text in texts(done, "refused"))
    assert "map-servers: []" in done.text


def test_mappings_of_one_eid_are_one_and_families_that_differ_are_told(tmp_path: Path) -> None:
    file, done = node("04", tmp_path), converted("04")

    assert list(map(str, file.eids)) == ["192.0.2.84/32"]
    assert [(uplink.name, uplink.priority, uplink.weight) for uplink in file.uplinks[:2]] == [
        ("wlan0", 1, 100),
        ("wwan0", 2, 90),
    ]
    said = texts(done, "note")
    assert any("wlan0: only its IPv4 was used" in text for text in said)
    ranks = [uplink.to_rule().families for uplink in file.uplinks[:2]]
    assert [[(rank.family, rank.priority) for rank in families] for families in ranks] == [
        [(4, 1), (6, 255)],
        [(4, 2), (6, 255)],
    ]
    assert [server.proxy_reply for server in file.map_servers] == [True, False]
    assert (file.probing.interval_s, file.probing.tries, file.probing.timeout_s) == (25, 2, 4)
    assert file.natt.mode == "off"


def test_what_counts_something_else_for_one_eid_is_written_beside_that_eid(tmp_path: Path) -> None:
    file = node("06", tmp_path)
    first, second = file.own_eids

    assert [first.rank(name, *rank) for name, rank in (("eth1", (2, 1)), ("eth2", (1, 1)))] == [(2, 1), (1, 1)]
    assert [second.rank(name, *rank) for name, rank in (("eth1", (2, 1)), ("eth2", (1, 1)))] == [(1, 1), (2, 1)]
    assert second.prefix == EidPrefix.parse("[12]2001:db8:86::1/128")
    assert file.register.ttl_min == 10
    said = "\n".join(texts(converted("06"), "note"))
    assert "VXLAN-GPE" in said
    assert "ttl: there were 10, 20 minutes" in said


def test_an_interface_that_an_eid_does_not_name_is_announced_for_it_and_unused(tmp_path: Path) -> None:
    mapping = "database-mapping { eid-prefix = %s rloc-iface { interface = %s ip_version = 4 } }\n"
    server = "map-server { address = 198.51.100.9 key = k }\n"
    raw = (server + mapping % ("192.0.2.1/32", "eth1") + mapping % ("192.0.2.2/32", "eth2")).encode()

    file = node(raw, tmp_path)

    assert [eid.rank("eth2", 1, 100) for eid in file.own_eids] == [(255, 0), (1, 100)]


def test_uci_finds_the_locators_of_a_set_and_lists_by_section(tmp_path: Path) -> None:
    router, two = node("05", tmp_path), node("11", tmp_path)

    assert list(map(str, router.proxy_itrs)) == ["203.0.113.95", "2001:db8:95::1"]
    assert [(uplink.name, uplink.priority) for uplink in two.uplinks] == [("eth0.2", 1), ("3g-wan2", 2), ("*", None)]
    assert [str(map_resolver.address) for map_resolver in two.map_resolvers] == ["198.51.100.51", "198.51.100.52"]
    assert (router.natt.mode, two.natt.mode) == ("e19", "e19")
    assert router.log.level == "debug"


def test_a_fixed_address_becomes_the_interface_that_has_it(tmp_path: Path) -> None:
    file = node("10", tmp_path)
    raw = (OLD / "10-fixed-address.conf").read_bytes()
    stranger = convert(raw, "x", resolve=resolve, interface_of=lambda _: None, key_stem="made", key_files={})

    assert [(uplink.name, uplink.priority) for uplink in file.uplinks] == [("eth7", 3), ("*", None)]
    assert "no interface of this host has it" in stranger.text
    assert "uplinks:" not in stranger.text


def test_mistakes_are_told_with_their_lines_and_the_rest_is_converted(tmp_path: Path) -> None:
    done = converted("09")

    assert texts(done, "mistake") == [
        "2: <!-- ... --> is no comment of this language; these lines are passed over",
        "10: proxy-etr-ipv4: address: 203.[A0.113.97 is not an address or a host name; it is left out",
    ]
    assert [str(proxy_etr.address) for proxy_etr in node("09", tmp_path).proxy_etrs] == ["203.0.113.97"]


def test_a_map_server_becomes_a_hub_whose_sites_share_what_is_the_same(tmp_path: Path) -> None:
    hub = loaded(converted("07"), tmp_path)
    assert isinstance(hub, HubFile)

    assert [list(map(str, site.eids)) for site in hub.sites] == [
        ["192.0.2.87/32", "2001:db8:87::1/128"],
        ["[7]192.0.2.64/27"],
    ]
    assert [(site.accept_more_specifics, site.proxy_reply) for site in hub.sites] == [
        (False, "as-registered"),
        (True, "always"),
    ]
    assert [str(rtr.address) for rtr in hub.rtrs] == ["203.0.113.72", "203.0.113.71"]
    assert "ms-static-registered-site" in converted("07").text


def test_the_same_roles_are_found_in_uci(tmp_path: Path) -> None:
    server = b"""
config 'daemon'
	option 'operating_mode' 'MS'
config 'ms_basic'
	option 'control_iface' 'eth1'
config 'lisp-site'
	option 'eid_prefix' '192.0.2.0/28'
	option 'key' 'k'
config 'ms-rtr-node'
	option 'name' 'one'
	option 'address' '203.0.113.71'
	option 'key' 'r'
config 'ms-rtr-node'
	option 'name' 'two'
	option 'address' '203.0.113.72'
	option 'key' 'r'
config 'ms-rtrs-set'
	option 'name' 'all'
	list 'rtrs' 'two'
	list 'rtrs' 'one'
config 'ms-advertised-rtrs-set'
	option 'name' 'all'
"""
    relay = b"""
config 'daemon'
	option 'operating_mode' 'RTR'
config 'rtr-iface'
	option 'iface' 'eth1'
	option 'ip_version' '4'
config 'rtr-ms-node'
	option 'address' '198.51.100.48'
	option 'key' 'r'
"""

    hub, rtr = loaded(converted(server), tmp_path), loaded(converted(relay), tmp_path)

    assert isinstance(hub, HubFile)
    assert isinstance(rtr, HubFile)
    assert [str(link_section.address) for link_section in hub.rtrs] == ["203.0.113.72", "203.0.113.71"]
    assert "control-iface" in converted(server).text
    assert (rtr.rtr.enabled, rtr.proxy.interfaces) == (True, ("eth1",))


def test_who_sent_only_some_destinations_into_the_overlay_still_does(tmp_path: Path) -> None:
    more = b"allowed-dst-eids = { 192.0.2.0/24, 2001:db8::/32, nowhere }\n"
    file = node((OLD / "12-android-app.conf").read_bytes() + more, tmp_path)

    assert (file.routing.mode, list(map(str, file.routing.overlay_prefixes))) == (
        "split",
        ["192.0.2.0/24", "2001:db8::/32"],
    )


def test_the_identity_of_a_node_behind_a_nat_is_kept(tmp_path: Path) -> None:
    ids = b"nat-traversal { nat_aware = on site_ID = 0000000000000042 xTR_ID = 000102030405060708090A0B0C0D0E0F }\n"
    file = node((OLD / "03-by-family.conf").read_bytes() + ids, tmp_path)

    assert (file.register.site_id, file.register.xtr_id) == (bytes((*bytes(7), 0x42)), bytes(range(16)))


def test_an_rtr_becomes_a_hub_that_serves_the_same_map_server(tmp_path: Path) -> None:
    hub = loaded(converted("08"), tmp_path)
    assert isinstance(hub, HubFile)

    assert hub.rtr.enabled
    assert [str(map_server.address) for map_server in hub.rtr.map_servers] == ["198.51.100.48"]
    assert hub.proxy.interfaces == ("eth1",)


def test_lispers_net_counts_between_its_dotted_lines_alone(tmp_path: Path) -> None:
    file, done = node("13", tmp_path), converted("13")

    assert list(map(str, file.eids)) == ["[5]192.0.2.93/32", "[5]2001:db8:93::1/128"]
    assert [(uplink.name, uplink.weight) for uplink in file.uplinks] == [("eth0", 50)]
    assert [(str(proxy_etr.address), proxy_etr.priority) for proxy_etr in file.proxy_etrs] == [("203.0.113.13", 10)]
    assert file.natt.mode == "lispers-net"
    assert done.is_complete


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "nothing in it can be read"),
        (b"operating-mode = DDT\n", "delegation tree"),
        (b"debug = 1\n", "no EID can be found"),
        (b"database-mapping { eid-prefix = 192.0.2.1/32 }\n", "no Map-Server can be found"),
        (b"eids: [192.0.2.1/32]\n", "a lispmob file already"),
        (b"debug = 1\0", "this is no text"),
        (b"#" * (1 << 20) + b"#", "more than 1048576 octets"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_reason(raw: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        converted(raw)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("map-server {", "this '{' is never closed"),
        ("}", "'}' without a '{'"),
        ("debug", "neither '=' nor '{' after the name"),
        ("debug =", "there is no value"),
        ('debug = "1', "a quote is opened and not closed"),
        ('include("other.conf")', "is not followed"),
        ("map-resolver = { 198.51.100.1", "the list is never closed"),
        ("proxy-itrs = { 1.2.3 }", "1.2.3 is not an address or a host name"),
        ("rloc-probe-interval = often", "often is not 0 to 86400"),
        ("nat_traversal_support = perhaps", "perhaps is not on or off"),
        ("database-mapping { iid = 0 }", "there is no eid-prefix"),
        ("database-mapping { eid-prefix = 224.0.0.0/8 }", "multicast addresses are no EIDs"),
        ('database-mapping { eid-prefix = 192.0.2.7/32 interface = "a b" }', "is not the name of an interface"),
        ("map-server { address = 198.51.100.9 key = twice }", "listed twice"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_stops_nothing(line: str, words: str) -> None:
    good = (
        "map-server { address = 198.51.100.9 key-type = 1 key = k }\n"
        "database-mapping { eid-prefix = 192.0.2.1/32 interface = eth0 }\n"
    )

    done = converted(f"{good}{line}\n".encode())

    assert any(text.startswith("3: ") and words in text for text in texts(done, "mistake"))
    assert "192.0.2.1/32" in done.text


_WORDS = (
    "map-server database-mapping eid-prefix rloc-iface interface address key key-type operating-mode MS RTR lisp-site "
    "name eth0 lisp config option list prefix rloc 192.0.2.1/32 198.51.100.9 2001:db8::1 on off -1 255"
)
_SIGNS = "{ } = , ( \" ' # // /* */ \\ : - [ ] & * ! %"
_PIECES = st.sampled_from([*_WORDS.split(), *_SIGNS.split(), "\n", "\u2028", "\x85"])


_GOOD = (
    "map-server { address = 198.51.100.8 key = k }\ndatabase-mapping { eid-prefix = 192.0.2.9/32 }\n",
    "config map-server\n option address 198.51.100.8\nconfig database-mapping\n option eid_prefix 192.0.2.9/32\n",
    "lisp map-server {\n address = fd00::8\n}\nlisp database-mapping {\nprefix {\neid-prefix = 192.0.2.9/32\n}\n}\n",
    "operating-mode = MS\nlisp-site { eid-prefix = 192.0.2.9/32 key = k }\n",
)


@given(st.sampled_from(_GOOD), st.lists(_PIECES, max_size=60), st.sampled_from([" ", "\n", ""]))
def test_whatever_stands_in_a_file_the_result_is_yaml_or_a_reason(good: str, pieces: list[str], between: str) -> None:
    try:
        done = converted((good + between.join(pieces)).encode())
    except ConfigError:
        return

    assert parse_yaml(done.text.encode(), "made") is not None
