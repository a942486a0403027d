"""lispd.conf: the schema of the mobile node's configuration. `load_node(path)` is the face.

Defaults are those of the structs below; conf/lispd.conf shows each of them, and a test keeps the two equal.
"""

from __future__ import annotations

import grp
import logging
import os
import re
import stat
import typing
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar

from msgspec import field

from lispmob.config.eid import Eid, OwnEidEntry
from lispmob.config.flows import FlowsSection
from lispmob.config.key import KeySection
from lispmob.config.names import NamesSection
from lispmob.config.profile import PROFILES
from lispmob.config.reader import Section, read_yaml
from lispmob.config.security import PeerSection, PublicKey, SecuritySection, check_peers
from lispmob.config.steering import MultihomingSection, SteeringSection
from lispmob.config.values import (
    RLOC_TEXT,
    SERVER_TEXT,
    FieldError,
    FilePath,
    GroupName,
    HostName,
    InterfaceName,
    InterfacePattern,
    KeyFile,
    KeyId,
    Network,
    NetworkName,
    Priority,
    Rloc,
    Secret,
    SecretText,
    Server,
    Text,
    Translator,
    Weight,
    YesNo,
    duration,
    hex_octets,
    one_of,
    or_word,
    plain,
    whole,
)
from lispmob.crypto.key_wrap import why_no_key_wrap
from lispmob.errors import ConfigError
from lispmob.iface_monitor.link_type import TYPES
from lispmob.iface_monitor.snapshot import FamilyRank, UplinkRule
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm

DEFAULT_PATH: Final = Path("/etc/lispmob/lispd.conf")
SERVICE_GROUP: Final = "lispmob"  # of the packaged unit
EXAMPLE_KEY: Final = b"CHANGE-ME"  # the one in the shipped file: it is no secret

log = logging.getLogger(__name__)


class RemoteLocator(Section, frozen=True, kw_only=True):
    """An RLOC of another site. A bare address stands for priority 1, weight 100."""

    address: Rloc
    priority: Priority = 1
    weight: Weight = 100


_BARE_LOCATOR: Final = Text(
    lambda text, directory: RemoteLocator(address=RLOC_TEXT.read(text, directory)),
    "an address, or lines 'address:', 'priority:', 'weight:'",
)
LocatorEntry: TypeAlias = Annotated[
    RemoteLocator, Text(_BARE_LOCATOR.read, _BARE_LOCATOR.accepts, mapping=RemoteLocator)
]


def _address_at(place: Server) -> IpAddress:
    assert not isinstance(place, HostName), "names are replaced by addresses first"
    return place


class ServerSection(Section, frozen=True, kw_only=True):
    """Base of the settings of a server. `place`: its address, or its host name."""

    place: Server = field(name="address")

    @property
    def address(self) -> IpAddress:
        """Its address; only if it is configured by address."""
        return _address_at(self.place)


class MapServerSection(KeySection, frozen=True, kw_only=True):
    """A Map-Server that this node registers with. `place` as in `ServerSection`: msgspec allows no second base."""

    place: Server = field(name="address")
    proxy_reply: YesNo = True
    xtr_id: Annotated[bool | None, or_word("auto", typing.get_args(YesNo)[1])] = None
    """Whether Map-Registers contain our xTR-ID; None: unless the key is of the kind that only old servers use."""

    @property
    def address(self) -> IpAddress:
        """Where it is; only for one that has an address."""
        return _address_at(self.place)

    @property
    def sends_xtr_id(self) -> bool:
        """Open Overlay Router's Map-Server, which knows HMAC-SHA-1 alone, reads an xTR-ID behind NATs only."""
        return self.to_key().algorithm is not Algorithm.HMAC_SHA_1_96 if self.xtr_id is None else self.xtr_id


class MapResolverSection(ServerSection, frozen=True, kw_only=True):
    """A Map-Resolver that this node asks. A bare address stands for one without its own secret (LISP-SEC)."""

    key: SecretText | None = None
    key_file: KeyFile | None = None
    key_id: KeyId = 0

    def __post_init__(self) -> None:
        if self.key is not None and self.key_file is not None:
            raise FieldError("key-file", "'key' is given too; one of them")

    @property
    def secret(self) -> Secret | None:
        """Its secret, wherever it was written."""
        return self.key or self.key_file


_BARE_RESOLVER: Final = Text(
    lambda text, directory: MapResolverSection(place=SERVER_TEXT.read(text, directory)),
    "an address, a host name, or lines 'address:', 'key:', 'key-id:'",
)
ResolverEntry: TypeAlias = Annotated[
    MapResolverSection, Text(_BARE_RESOLVER.read, _BARE_RESOLVER.accepts, mapping=MapResolverSection)
]


class ProxySection(ServerSection, frozen=True, kw_only=True):
    """A P-ETR. A bare address or name stands for priority 1, weight 100. `public_key`: packets to it are sealed."""

    priority: Priority = 1
    weight: Weight = 100
    public_key: PublicKey | None = None


def _proxy(text: str, directory: Path) -> ProxySection:
    place = SERVER_TEXT.read(text, directory)
    return ProxySection(place=place if isinstance(place, HostName) else RLOC_TEXT.read(text, directory))


ProxyEntry: TypeAlias = Annotated[
    ProxySection,
    Text(_proxy, _BARE_LOCATOR.accepts.replace("address,", "address, a host name,", 1), mapping=ProxySection),
]

_OTHER_WORDS: Final = {
    **dict.fromkeys(("wlan", "wireless", "wi-fi", "802-11-wireless"), "wifi"),
    **dict.fromkeys(("lan", "eth", "wired", "802-3-ethernet"), "ethernet"),
    **dict.fromkeys(("lte", "gsm", "mobile", "modem", "cellular", "4g", "5g"), "wwan"),
    **dict.fromkeys(("vpn", "gre", "vxlan"), "tunnel"),
    "wg": "wireguard",
    "tap": "tun",
    "bt": "bluetooth",
}


class FamilySection(Section, frozen=True, kw_only=True):
    """Priority and weight of one family of an interface; missing values are those of the interface."""

    priority: Priority | None = None
    weight: Weight | None = None


class UplinkSection(Section, frozen=True, kw_only=True):
    """A rule for interfaces whose name, type and network match; the first match counts.

    `use` None: tunnels (VPNs) are not used, everything else is. `metered` None: by NetworkManager.
    """

    name: InterfacePattern | None = None
    type: Annotated[str | None, one_of(*TYPES, also=_OTHER_WORDS)] = None
    network: tuple[NetworkName, ...] = ()
    use: YesNo | None = None
    priority: Priority | None = None
    weight: Weight | None = None
    ipv4: FamilySection | None = None
    ipv6: FamilySection | None = None
    metered: YesNo | None = None
    cost: Annotated[int | None, or_word("auto", whole(0, 65535))] = None

    def __post_init__(self) -> None:
        if self.name is None and self.type is None and not self.network:
            needed = "'name', 'type' or 'network' is needed, to say which interfaces this is about; all: name: \"*\""
            raise FieldError("", needed)

    def to_rule(self) -> UplinkRule:
        """The rule as the watch knows it."""
        families = tuple(
            FamilyRank(family, section.priority, section.weight)
            for family, section in ((4, self.ipv4), (6, self.ipv6))
            if section is not None
        )
        return UplinkRule(self.name or "*", self.use, self.priority, self.weight, self.type, self.network, families)


class AddressesSection(Section, frozen=True, kw_only=True):
    """Which addresses of an uplink may become locators."""

    temporary: YesNo = False
    deprecated: YesNo = False


class NetworkManagerSection(Section, frozen=True, kw_only=True):
    """How NetworkManager's view is used: captive portals, metered networks, missing internet access."""

    use: YesNo = True
    portal: Annotated[str, one_of("wait", "use")] = "wait"
    metered: Annotated[str, one_of("use", "last", "never")] = "last"
    limited: Annotated[str, one_of("use", "last")] = "use"


class RoutingSection(Section, frozen=True, kw_only=True):
    """What goes into the overlay.

    `fallback` auto: a destination without LISP is unreachable inside the overlay prefixes, and native outside of them.
    `when_stopped`: how packets for the overlay prefixes are treated while lispd does not run. `containers`: packets of
    this host's containers and virtual machines for the overlay prefixes enter it.
    """

    mode: Annotated[str, one_of("split", "full")] = "split"
    overlay_prefixes: tuple[Network, ...] = ()
    fallback: Annotated[str, one_of("auto", "native", "proxy", "drop")] = "auto"
    when_stopped: Annotated[str, one_of("native", "unreachable")] = "native"
    containers: YesNo = True
    rule_priority: Annotated[int, whole(64, 32000)] = 4345
    first_table: Annotated[int, whole(256, 4_000_000_000)] = 4340


class TunSection(Section, frozen=True, kw_only=True):
    """The device that applications see. `mtu_bytes` None: from the uplinks."""

    name: InterfaceName = "lmn0"
    mtu_bytes: Annotated[int | None, or_word("auto", whole(1280, 65535))] = field(name="mtu", default=None)
    pin_threads: YesNo = False


class DatapathSection(Section, frozen=True, kw_only=True):
    """The tier of the datapath: auto is the kernel itself (ebpf) if possible, else our threads (tun).

    `source_check`: which inner sources are accepted (datapath/c/engine/source.h).
    """

    tier: Annotated[str, one_of("auto", "tun", "ebpf")] = "auto"
    source_check: Annotated[str, one_of("loose", "strict", "off")] = "loose"


class StaticMapping(Section, frozen=True, kw_only=True):
    """A mapping that is never asked for; without locators its packets are dropped."""

    prefix: Eid
    locators: tuple[LocatorEntry, ...] = ()


class MapCacheSection(Section, frozen=True, kw_only=True):
    """The map-cache. `program`: one on the control socket is a mapping system, too; without a Map-Resolver, alone."""

    limit: Annotated[int, whole(16, 1_000_000)] = 10_000
    program: YesNo = False
    static: tuple[StaticMapping, ...] = ()


def _host_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.-]{1,64}", text) is None:
        raise ValueError
    return text


_HOST_NAME: Final = plain(_host_name, "a name of 1 to 64 letters, digits, dots and hyphens")


class RegisterSection(Section, frozen=True, kw_only=True):
    """Map-Register: interval, lifetime and identity. `xtr_id` None: drawn once and stored in the state directory."""

    interval_s: Annotated[float, duration("s", 5, 3600)] = field(name="interval", default=60.0)
    ttl_s: Annotated[float, duration("m", 60, 86400)] = field(name="ttl", default=600.0)
    xtr_id: Annotated[bytes | None, or_word("auto", hex_octets(16))] = None
    site_id: Annotated[bytes, hex_octets(8)] = bytes(8)

    def __post_init__(self) -> None:
        if self.ttl_s % 60:
            raise FieldError("ttl", "a record's time to live counts whole minutes")

    @property
    def ttl_min(self) -> int:
        """Time to live of our records, in minutes as on the wire."""
        return int(self.ttl_s) // 60


class ProbingSection(Section, frozen=True, kw_only=True):
    """RLOC-probing: which remote locators answer. `measure`: probe even while data proves that they do.

    `status_bits`: whether the Locator-Status-Bits of others cause probes, and whether we send ours. `echo_nonce`:
    answer and send requests for an echo in data.
    """

    enabled: YesNo = True
    interval_s: Annotated[float, duration("s", 1, 3600)] = field(name="interval", default=30.0)
    tries: Annotated[int, whole(1, 10)] = 2
    timeout_s: Annotated[float, duration("s", 0.1, 30)] = field(name="timeout", default=1.0)
    backoff_s: Annotated[float, duration("s", 1, 3600)] = field(name="backoff", default=60.0)
    measure: YesNo = False
    status_bits: Annotated[str, one_of("no", "listen", "send")] = "listen"
    echo_nonce: YesNo = False


class NattSection(Section, frozen=True, kw_only=True):
    """NATs in between. `keepalive_s` None: as the NAT requires. `host_name` empty: that of the machine.

    `nat64`: the prefix of a translator to IPv4, "auto" to find it, "off" to use none.
    """

    mode: Annotated[str, one_of("auto", "off", "e19", "lispers-net")] = "auto"
    written_rtrs: tuple[Server, ...] = field(name="rtrs", default=())
    prefer_rtr: YesNo = False
    direct: YesNo = False
    nat64: Translator = "auto"
    keepalive_s: Annotated[float | None, or_word("auto", duration("s", 5, 120))] = field(name="keepalive", default=None)
    host_name: Annotated[str | None, or_word("auto", _HOST_NAME)] = None

    @property
    def rtrs(self) -> tuple[IpAddress, ...]:
        """Those with an address."""
        return _addresses(self.written_rtrs)


class ControlSection(Section, frozen=True, kw_only=True):
    """The socket that lispctl talks to."""

    socket: FilePath = Path("/run/lispmob/lispd.sock")
    group: GroupName = "lispmob"


class LogSection(Section, frozen=True, kw_only=True):
    """The log. `record`: record the core's inputs from the start on, for `lispctl record`."""

    level: Annotated[str, one_of("debug", "info", "warning", "error")] = "info"
    record: YesNo = False


_P = TypeVar("_P", MapServerSection, MapResolverSection, ProxySection)


def _placed(sections: tuple[_P, ...]) -> tuple[_P, ...]:
    return tuple(section for section in sections if not isinstance(section.place, HostName))


def _addresses(servers: tuple[Server, ...]) -> tuple[IpAddress, ...]:
    return tuple(server for server in servers if not isinstance(server, HostName))


class NodeFile(Section, frozen=True, kw_only=True):
    """All of lispd.conf. `written_*`: servers as written; the fields without it have those with an address."""

    own_eids: tuple[OwnEidEntry, ...] = field(name="eids")
    written_servers: tuple[MapServerSection, ...] = field(name="map-servers", default=())
    written_resolvers: tuple[ResolverEntry, ...] = field(name="map-resolvers", default=())
    written_etrs: tuple[ProxyEntry, ...] = field(name="proxy-etrs", default=())
    written_itrs: tuple[Server, ...] = field(name="proxy-itrs", default=())
    uplinks: tuple[UplinkSection, ...] = ()
    multihoming: MultihomingSection = MultihomingSection()
    steering: SteeringSection = SteeringSection()
    addresses: AddressesSection = AddressesSection()
    network_manager: NetworkManagerSection = NetworkManagerSection()
    routing: RoutingSection = RoutingSection()
    tun: TunSection = TunSection()
    datapath: DatapathSection = DatapathSection()
    map_cache: MapCacheSection = MapCacheSection()
    register: RegisterSection = RegisterSection()
    probing: ProbingSection = ProbingSection()
    natt: NattSection = NattSection()
    profile: Annotated[str, one_of(*PROFILES)] = "normal"
    security: SecuritySection = SecuritySection()
    peers: tuple[PeerSection, ...] = ()
    flows: FlowsSection = FlowsSection()
    names: NamesSection = NamesSection()
    control: ControlSection = ControlSection()
    dbus: YesNo = True
    log: LogSection = LogSection()
    state_dir: FilePath = Path("/var/lib/lispmob")

    @property
    def eids(self) -> tuple[EidPrefix, ...]:
        """Our EID-Prefixes."""
        return tuple(eid.prefix for eid in self.own_eids)

    @property
    def map_servers(self) -> tuple[MapServerSection, ...]:
        """Those to register with."""
        return _placed(self.written_servers)

    @property
    def map_resolvers(self) -> tuple[MapResolverSection, ...]:
        """The Map-Resolvers in the file."""
        return _placed(self.written_resolvers)

    @property
    def proxy_etrs(self) -> tuple[ProxySection, ...]:
        """Those that carry our packets to destinations without LISP."""
        return _placed(self.written_etrs)

    @property
    def proxy_itrs(self) -> tuple[IpAddress, ...]:
        """Those that carry such packets to us."""
        return _addresses(self.written_itrs)

    @property
    def resolvers(self) -> tuple[IpAddress, ...]:
        """The destinations of Map-Requests: the Map-Resolvers, or without any the Map-Servers (mostly both)."""
        asked = [written_resolver.place for written_resolver in self.written_resolvers] or [
            written_server.place for written_server in self.written_servers
        ]
        return tuple(dict.fromkeys(_addresses(tuple(asked))))

    def __post_init__(self) -> None:
        if not self.eids:
            raise FieldError("eids", "at least one EID-Prefix is needed")
        if not self.written_servers and not self.map_cache.static and not self.map_cache.program:
            what = "at least one Map-Server is needed, or static mappings in map-cache.static, or map-cache.program"
            raise FieldError("map-servers", what)
        for index, eid in enumerate(self.eids):
            if eid in self.eids[:index]:
                raise FieldError(f"eids[{index}]", f"{eid} is listed twice")
        seen = [server.place for server in self.written_servers]
        for index, place in enumerate(seen):
            if place in seen[:index]:
                raise FieldError(f"map-servers[{index}].address", f"{place} is listed twice")
        self._check_not_inside_eid()
        check_peers(self.peers, self.eids)
        if self.security.lisp_sec == "require":
            self._check_required_lisp_sec()
            if self.log.record:
                raise FieldError("log.record", "a recording has no keys, so LISP-SEC is off in it, and is required")
        if self.security.seal == "require" and self.log.record:
            raise FieldError(
                "log.record", "a recording has no keys, so nothing is sealed, and security: seal requires it"
            )
        if self.routing.fallback == "proxy" and not self.written_etrs:
            raise FieldError("routing.fallback", "'proxy' needs at least one entry in 'proxy-etrs'")

    def _check_required_lisp_sec(self) -> None:
        """Every Map-Resolver must share a secret with us, and nothing may ask without it."""
        servers = {server.place for server in self.written_servers}
        for index, resolver in enumerate(self.written_resolvers):
            if resolver.secret is None and resolver.place not in servers:
                raise FieldError(
                    f"map-resolvers[{index}]",
                    f"{resolver.place} needs 'key' or 'key-file', for security: lisp-sec is 'require'; only one that "
                    "is a Map-Server of ours too can do without",
                )
        if self.natt.direct:
            raise FieldError("natt.direct", "it asks without LISP-SEC, and security: lisp-sec is 'require'")

    def _check_not_inside_eid(self) -> None:
        """The way to the mapping system cannot itself be an overlay address."""
        places: list[tuple[str, Server]] = [
            *((f"map-servers[{i}].address", server.place) for i, server in enumerate(self.written_servers)),
            *((f"map-resolvers[{i}]", resolver.place) for i, resolver in enumerate(self.written_resolvers)),
            *((f"proxy-etrs[{i}].address", proxy.place) for i, proxy in enumerate(self.written_etrs)),
            *((f"proxy-itrs[{i}]", place) for i, place in enumerate(self.written_itrs)),
        ]
        for key, place in places:
            for eid in self.eids:
                if not isinstance(place, HostName) and eid.contains(place):
                    raise FieldError(key, f"{place} lies in our own EID-Prefix {eid}; an RLOC is needed")


def load_node(path: Path) -> NodeFile:
    """Read lispd.conf. Raises ConfigError, one line an error; warns about keys that are no secret."""
    node = read_yaml(path, NodeFile)
    if node.security.lisp_sec == "require" and (missing := why_no_key_wrap()) is not None:
        raise ConfigError(f"{path}: security.lisp-sec: 'require' cannot be kept: {missing}")
    if node.security.seal == "require" and why_no_key_wrap() is not None:
        missing = "this build has no libcrypto, since its headers (libssl-dev) were missing when it was compiled"
        raise ConfigError(f"{path}: security.seal: 'require' cannot be kept: {missing}")
    keys = [*(server.key for server in node.written_servers), *(resolver.key for resolver in node.written_resolvers)]
    if any(keys) and _is_world_readable(path):
        log.warning("every user can read the key in %s; %s, or use 'key-file'", path, _remedy(path))
    return node


def _is_world_readable(path: Path) -> bool:
    """Whether every user can open the file: its mode and that of every directory above allow it."""
    try:
        whole = path.resolve()
        ways = all(os.stat(parent).st_mode & stat.S_IXOTH for parent in whole.parents)
        return ways and bool(os.stat(whole).st_mode & stat.S_IROTH)
    except OSError:
        return False


def _remedy(path: Path) -> str:
    """How to protect it without excluding the service, which has its own user and group as packaged."""
    try:
        return f"run: chgrp {grp.getgrnam(SERVICE_GROUP).gr_name} {path} && chmod 640 {path}"
    except KeyError:
        return f"run: chmod 640 {path}"
