"""hub.conf: the shipped file loads and shows the defaults, and errors name their place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lispmob.errors import ConfigError
from lispmob.hub.config import HubFile, ProxySection, SiteSection, load_hub
from lispmob.hub.daemon import main
from lispmob.hub.inviting.invite_config import InvitationsSection
from lispmob.hub.map_server.site import ProxyReply
from lispmob.hub.rtr.natt_config import LinkSection, RtrSection
from lispmob.hub.valkey.section import RegistrySection
from lispmob.wire.auth import Algorithm

SHIPPED = Path(__file__).resolve().parent.parent.parent / "conf" / "hub.conf"


def load(tmp_path: Path, text: str) -> HubFile:
    path = tmp_path / "hub.conf"
    path.write_text(text)
    path.chmod(0o600)
    return load_hub(path)


def test_the_shipped_file_loads() -> None:
    assert [section.name for section in load_hub(SHIPPED).sites] == ["laptop"]


@pytest.mark.parametrize(
    "section", [HubFile, SiteSection, ProxySection, RtrSection, LinkSection, InvitationsSection, RegistrySection]
)
def test_the_shipped_file_explains_every_key(section: type[HubFile]) -> None:
    text = SHIPPED.read_text()

    for key in section.__struct_encode_fields__:
        assert re.search(rf"^[#\s-]*{key}:|; or {key},", text, re.MULTILINE), key


def test_the_shipped_file_shows_the_defaults(tmp_path: Path) -> None:
    shown = [
        "# key-id: 0", "# accept-more-specifics: no", "# proxy-reply: as-registered", "# strict-nonces: yes",
        "# max-prefixes: 16384", "# names: []",
        "# more-keys: []", "# listen: []", "# map-servers: []", "#   enabled: no", "#   tun: lmh0", "#   mtu: 1440",
        "#   interfaces: []", "#   eids: []", "#   deny: [own, 10.0.0.0/8,", "#   allow: []",
        "# state-file: /var/lib/lispmob/hub.sqlite", "#   level: info",
        "# rtrs: []", "#   map-servers: []", "# nat-dialects: [e19]",
        "#   addresses: []", "#   pools: []", "#   overlay-prefixes: []", "#   domain: none", "#   valid: 24h",
        "# sites-file: auto",
        "#   valkey: []", "#   user: none", "#   password-file: none", "#   tls: no", "#   tls-ca: none",
        "#   island: yes", "#   cache: 100000", "#   name: none", "# workers: 1",
    ]  # fmt: skip
    text = SHIPPED.read_text()
    for line in shown:
        assert line in text, line
    uncommented = re.sub(
        r"^(\s*)# (key-id|accept-more-specifics|proxy-reply|strict-nonces|max-prefixes|names|algorithms|listen"
        r"|map-servers"
        r"|proxy|log|rtrs|rtr"
        r"|nat-dialects|  map-servers"
        r"|invitations|  addresses|  pools|  overlay-prefixes|  domain|  valid|sites-file"
        r"|registry|  valkey|  user|  password-file|  tls|  tls-ca|  island|  cache|workers"
        r"|state-file|  enabled|  tun|  mtu|  interfaces|  eids|  deny|  allow|  level):",
        r"\1\2:",
        text,
        flags=re.MULTILINE,
    )

    assert load(tmp_path, uncommented) == load_hub(SHIPPED)


@pytest.mark.parametrize("lisp_sec", ["require", "prefer"])
def test_a_map_server_elsewhere_with_a_key_is_accepted_whatever_lisp_sec_says(tmp_path: Path, lisp_sec: str) -> None:
    hub = load(
        tmp_path,
        f"sites: []\nsecurity: {{lisp-sec: {lisp_sec}}}\nrtr: {{map-servers: [{{address: 1.2.3.4, key: k}}]}}",
    )

    assert [str(link.address) for link in hub.rtr.map_servers] == ["1.2.3.4"]


def test_a_site_has_every_key_under_every_algorithm(tmp_path: Path) -> None:
    (tmp_path / "new.key").write_text("the next one\n")
    (tmp_path / "new.key").chmod(0o600)
    hub = load(
        tmp_path,
        "sites:\n- {name: a, eids: [10.0.0.0/8], key: old, proxy-reply: never,"
        " more-keys: [{key-file: new.key, key-id: 4}]}",
    )

    (site,) = hub.to_sites()

    assert [(key.secret, key.key_id, key.algorithm) for key in site.keys] == [
        (b"old", 0, Algorithm.HMAC_SHA_256_128),
        (b"old", 0, Algorithm.HMAC_SHA_1_96),
        (b"the next one", 4, Algorithm.HMAC_SHA_256_128),
        (b"the next one", 4, Algorithm.HMAC_SHA_1_96),
    ]
    assert site.proxy_reply is ProxyReply.NEVER


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sites:\n- {name: a, eids: [10.0.0.0/8]}", r"2:3: sites\[0\]: give the shared key"),
        ("sites:\n- {name: a, eids: [], key: k}", r"sites\[0\].eids: at least one"),
        ("sites:\n- {name: a, eids: [10.0.0.1/8], key: k}", r"bits beyond the prefix length"),
        (
            "sites:\n- {name: a, eids: [10.0.0.0/8], key: k}\n- {name: b, eids: [10.0.0.0/8], key: k}",
            r"3:20: sites\[1\].eids\[0\]: 10.0.0.0/8 belongs to site a already",
        ),
        ("sites:\n- {name: a, eids: [10.0.0.0/8], key: k, algorithms: [none]}", r"algorithms\[0\]"),
        ("sites:\n- {name: a, eids: [10.0.0.0/8], key: k, key-di: 1}", r"did you mean 'key-id'"),
        ("sites: []\nrtr: {enabled: yes, map-servers: [{address: 1.2.3.4}]}", r"rtr.map-servers\[0\].*give the key"),
        (
            "sites: []\nnat-dialects: [e19, lispers-net]\nrtr: {map-servers: [{address: 1.2.3.4}]}",
            r"rtr.map-servers\[0\].*give the key",
        ),
        (
            "sites: []\nsecurity: {lisp-sec: require}\nnat-dialects: []\nrtr: {map-servers: [{address: 1.2.3.4}]}",
            r"rtr.map-servers\[0\].*'require': give the key",
        ),
        ("sites: []\nproxy: {deny: [10.0.0.1/8]}", r"proxy.deny\[0\]"),
        ("sites: []\nproxy: {deny: [ours]}", r"proxy.deny\[0\].*, or own"),
        ("sites: []\nproxy: {allow: ['[7]10.0.0.0/8']}", r"proxy.allow\[0\]: .* Instance-ID 0 only"),
        ("sites: []\nproxy: {enabled: yes, eids: ['[7]10.0.0.0/8']}", r"proxy.eids\[0\]: .* Instance-ID 0 only"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, text)


def test_the_state_can_be_kept_nowhere(tmp_path: Path) -> None:
    assert load(tmp_path, "sites: []\nstate-file: none").state_file is None


def test_the_proxy_takes_the_eids_of_the_sites_unless_told_otherwise(tmp_path: Path) -> None:
    sites = "sites: [{name: a, key: k, eids: [10.0.0.0/8, '[7]10.0.0.0/8']}]\n"

    assert load(tmp_path, sites).proxied_eids == ()
    assert list(map(str, load(tmp_path, sites + "proxy: {enabled: yes}").proxied_eids)) == ["10.0.0.0/8"]
    chosen = load(tmp_path, sites + "proxy: {enabled: yes, eids: [10.1.0.0/16]}").proxied_eids
    assert list(map(str, chosen)) == ["10.1.0.0/16"]


def test_a_file_in_sites_d_has_more_sites(tmp_path: Path) -> None:
    (tmp_path / "sites.d").mkdir()
    (tmp_path / "sites.d" / "nas.conf").write_text("sites:\n- {name: nas, eids: [10.1.0.9/32], key: k}\n")
    (tmp_path / "sites.d" / "nas.conf~").write_text("what an editor left")

    hub = load(tmp_path, "sites:\n- {name: a, eids: [10.1.0.1/32], key: k}\n")

    assert [section.name for section in hub.sites] == ["a", "nas"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sites:\n- {name: b, eids: [10.1.0.1/32], key: k}\n", "b.conf: 10.1.0.1/32 belongs to site a already"),
        ("sites:\n- {name: a, eids: [10.1.0.2/32], key: k}\n", "b.conf: a is listed twice"),
        ("", "the file is empty"),
        ("sites: [{name: b}]\n", "the key 'eids' is missing"),
    ],
)
def test_a_mistake_in_sites_d_names_its_file(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "sites.d").mkdir()
    (tmp_path / "sites.d" / "b.conf").write_text(text)

    with pytest.raises(ConfigError, match=re.escape(why)):
        load(tmp_path, "sites:\n- {name: a, eids: [10.1.0.1/32], key: k}\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pools: [10.99.0.0/32]", "has no room"),
        ("pools: [10.99.0.0/24, 10.99.0.0/26]", "overlaps a pool before it"),
        ("pools: ['fd00::/48']", "too wide for a pool"),
        ("pools: [0.0.0.0/0]", "too wide for a pool: a /8 at most"),
        ("pools: [8.0.0.0/6]", "too wide for a pool: a /8 at most"),
        ("pools: ['::/64']", "begins with loopback addresses"),
        ("pools: [198.51.100.0/24], addresses: [198.51.100.1]", "holds 198.51.100.1, by which nodes reach this hub"),
        ("pools: ['2001:db8::/64'], addresses: ['2001:db8::1']", "holds 2001:db8::1, by which nodes reach"),
        ("pools: [192.0.2.0/24]}\nlisten: [192.0.2.7]\nlog: {level: info", "holds 192.0.2.7, by which nodes reach"),
        ("domain: '-.x'", "a domain such as home.example, or none"),
        ("valid: 1s", "a duration from 1m to 366d"),
    ],
)
def test_a_mistake_about_invitations_is_pointed_at(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        load(tmp_path, f"invitations: {{{text}}}\n")


def test_a_hub_with_pools_needs_no_sites_and_carries_data_for_them(tmp_path: Path) -> None:
    hub = load(
        tmp_path,
        "public-address: [198.51.100.1]\nrtr: {enabled: yes}\n"
        "invitations: {pools: [10.99.0.0/24], domain: Home.Example}",
    )

    assert list(map(str, hub.proxied_eids)) == ["10.99.0.0/24"]
    assert (list(map(str, hub.to_offer().addresses)), hub.to_offer().domain) == (["198.51.100.1"], "home.example")


@pytest.mark.parametrize(
    ("sites", "is_reported"), [("[]", True), ("[{name: a, eids: [10.0.0.1/32], key: secret-of-a}]", False)]
)
def test_a_hub_without_a_site_is_good_and_says_that_no_node_can_register(
    sites: str, is_reported: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hub.conf"
    path.write_text(f"listen: [198.51.100.1]\nsites: {sites}\n")
    path.chmod(0o600)

    code = main(["--check", "-c", str(path)])
    *notes, good = capsys.readouterr().out.splitlines()

    assert (code, good) == (0, f"{path}: good")
    assert [note.partition(": ")[2].split(",")[0] for note in notes] == ["note: there is no site"] * is_reported


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("db1.example.net", "db1.example.net:6379"),
        ("192.0.2.1:1", "192.0.2.1:1"),
        ("db1:65535", "db1:65535"),
        ('"[2001:db8::1]"', "[2001:db8::1]:6379"),
        ('"[2001:db8::1]:7000"', "[2001:db8::1]:7000"),
        ("db1:65536", None),
        ("db1:0", None),
        ('"2001:db8::1"', None),
        ('"db1 db2"', None),
    ],
)
def test_a_server_of_a_registry_is_a_host_and_a_port(place: str, meant: str | None, tmp_path: Path) -> None:
    text = f"registry: {{valkey: [{place}]}}\nsites:\n- {{name: a, eids: [10.0.0.0/8], key: old}}\n"

    if meant is None:
        with pytest.raises(ConfigError, match=r"hub\.conf:1:\d+: registry\.valkey"):
            load(tmp_path, text)
        return
    assert load(tmp_path, text).registry.valkey == (meant,)
