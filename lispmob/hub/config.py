"""hub.conf: the schema of the hub's configuration. Use `load_hub(path)`.

Defaults are those of the structs below; conf/hub.conf shows each of them, and a test keeps the two equal.
"""

from __future__ import annotations

import logging
import typing
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from lispmob.config.eid import Eid
from lispmob.config.key import ALGORITHMS
from lispmob.config.reader import Section, read_yaml
from lispmob.config.secrecy import advice
from lispmob.config.values import (
    Address,
    FieldError,
    FilePath,
    InterfaceName,
    KeyFile,
    KeyId,
    Secret,
    SecretText,
    YesNo,
    one_of,
    or_word,
    plain,
    whole,
)
from lispmob.crypto import rsa_signatures
from lispmob.crypto.key_wrap import why_no_key_wrap
from lispmob.errors import ConfigError, LispError
from lispmob.hub.ddt.section import DdtSection
from lispmob.hub.inviting.invitations import Offer
from lispmob.hub.inviting.invite_config import InvitationsSection
from lispmob.hub.map_server.host_address import PRIVATE
from lispmob.hub.map_server.map_resolver import RemoteMapServer
from lispmob.hub.map_server.names import label_of, overlap, read_pattern
from lispmob.hub.map_server.site import MAX_PREFIXES, ProxyReply, Site
from lispmob.hub.places import DEFAULT_SOCKET
from lispmob.hub.public_address import is_private
from lispmob.hub.rtr.natt_config import LinkSection, RtrSection
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.hub.valkey.section import RegistrySection, client_version, why_no_client
from lispmob.protocol.servers import LispSecMode, ResolverSecret
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key

OWN_NETWORKS: Final = "own"
LINK_LOCAL: Final = "169.254.0.0/16"
SITES_FILE: Final = "hub-sites.sqlite"
SITES_DIRECTORY: Final = "sites.d"  # beside hub.conf
EXAMPLE_KEY: Final = b"CHANGE-ME"  # the one in the shipped file, which is public
DEFAULT_ALGORITHMS: Final = ("hmac-sha-256-128", "hmac-sha-1-96")

log = logging.getLogger(__name__)


def _site_name(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isprintable():
        raise ValueError
    return text


class SiteKey(Section, frozen=True, kw_only=True):
    """Another key of a site, for a roll-over."""

    key: SecretText | None = None
    key_file: KeyFile | None = None
    key_id: KeyId = 0

    def __post_init__(self) -> None:
        _check_key(self.key, self.key_file)

    @property
    def secret(self) -> Secret:
        """The key, from the file or from another file."""
        found = self.key or self.key_file
        assert found is not None, "checked when the section was read"
        return found


class SiteSection(Section, frozen=True, kw_only=True):
    """A site: what it may register, and how it is answered."""

    name: Annotated[str, plain(_site_name, "a name of 1 to 64 characters")]
    eids: tuple[Eid, ...]
    key: SecretText | None = None
    key_file: KeyFile | None = None
    key_id: KeyId = 0
    more_keys: tuple[SiteKey, ...] = ()
    map_resolver_keys: tuple[SiteKey, ...] = ()
    """The nodes' secret under map-resolvers (LISP-SEC); empty: derived from the keys above."""
    algorithms: tuple[Annotated[str, one_of(*ALGORITHMS)], ...] = DEFAULT_ALGORITHMS
    accept_more_specifics: YesNo = False
    proxy_reply: Annotated[str, one_of(*(policy.value for policy in ProxyReply))] = ProxyReply.AS_REGISTERED.value
    strict_nonces: Annotated[bool | None, or_word("auto", typing.get_args(YesNo)[1])] = True
    max_prefixes: Annotated[int, whole(1, 1_000_000)] = MAX_PREFIXES
    names: tuple[Annotated[str, plain(read_pattern, "a name such as nas, or *.nas for all that end in it")], ...] = ()
    """Names that its nodes may register; empty: the name of the site, if it is a label and no other site has it."""

    def __post_init__(self) -> None:
        _check_key(self.key, self.key_file)
        if not self.eids:
            raise FieldError("eids", "at least one EID-Prefix is needed")
        if not self.algorithms:
            raise FieldError("algorithms", f"at least one is needed: {', '.join(ALGORITHMS)}")

    @property
    def secrets(self) -> tuple[tuple[Secret, int], ...]:
        """Every (secret, key-id) of the site."""
        given = [(self.key or self.key_file, self.key_id)]
        given += [(more.key or more.key_file, more.key_id) for more in self.more_keys]
        return tuple((secret, key_id) for secret, key_id in given if secret is not None)

    def to_site(self) -> Site:
        """The site for the Map-Server."""
        return Site(
            name=self.name,
            eids=self.eids,
            keys=tuple(
                Key(secret.octets, key_id, ALGORITHMS[algorithm])
                for secret, key_id in self.secrets
                for algorithm in self.algorithms
            ),
            accept_more_specifics=self.accept_more_specifics,
            proxy_reply=ProxyReply(self.proxy_reply),
            strict_nonces=self.strict_nonces,
            max_prefixes=self.max_prefixes,
            resolver_keys=tuple(
                ResolverSecret(map_resolver_key.secret.octets, map_resolver_key.key_id)
                for map_resolver_key in self.map_resolver_keys
            ),
        )


class RemoteSection(Section, frozen=True, kw_only=True):
    """Another Map-Server. `key`: shared with the hub there, so that LISP-SEC works across both."""

    address: Address
    eids: tuple[Eid, ...]
    key: SecretText | None = None
    key_file: KeyFile | None = None
    key_id: KeyId = 0

    def __post_init__(self) -> None:
        if self.key is not None and self.key_file is not None:
            raise FieldError("key-file", "'key' is given too; one of them")

    def to_remote(self) -> RemoteMapServer:
        """The same for the Map-Resolver."""
        secret = self.key or self.key_file
        shared = None if secret is None else ResolverSecret(secret.octets, self.key_id)
        return RemoteMapServer(self.address, self.eids, shared)


def _denied(text: str) -> str:
    return text if text == OWN_NETWORKS else str(ip_network(text))


Denied: TypeAlias = Annotated[str, plain(_denied, f"a network such as 10.0.0.0/8, or {OWN_NETWORKS}")]


class ProxySection(Section, frozen=True, kw_only=True):
    """Proxy ITR and proxy ETR. `eids` empty: those of the sites."""

    enabled: YesNo = False
    tun: InterfaceName = "lmh0"
    mtu: Annotated[int, whole(1280, 65535)] = 1440
    interfaces: tuple[InterfaceName, ...] = ()
    eids: tuple[Eid, ...] = ()
    deny: tuple[Denied, ...] = (OWN_NETWORKS, *PRIVATE, LINK_LOCAL)
    allow: tuple[Eid, ...] = ()

    def __post_init__(self) -> None:
        for name, prefixes in (("eids", self.eids), ("allow", self.allow)):
            for index, eid in enumerate(prefixes):
                if eid.instance_id:
                    raise FieldError(f"{name}[{index}]", f"{eid}: the proxy serves Instance-ID 0 only")

    @property
    def denied_networks(self) -> tuple[EidPrefix, ...]:
        """Destinations that nodes' packets are not forwarded to, without the networks of this machine."""
        return tuple(EidPrefix.parse(text) for text in self.deny if text != OWN_NETWORKS)

    @property
    def denies_own(self) -> bool:
        """True when packets to the networks of this machine are not forwarded either."""
        return OWN_NETWORKS in self.deny


class SecuritySection(Section, frozen=True, kw_only=True):
    """What must be authenticated. `lisp_sec`: mappings (RFC 9303). `seal`: data between nodes and the proxy.

    `publish`: changes of mappings, to subscribers (RFC 9437).
    """

    lisp_sec: Annotated[str, one_of("off", "prefer", "require")] = "prefer"
    seal: Annotated[str, one_of("off", "prefer")] = "prefer"
    publish: YesNo = True


class LogSection(Section, frozen=True, kw_only=True):
    """What is logged."""

    level: Annotated[str, one_of("debug", "info", "warning", "error")] = "info"


class HubFile(Section, frozen=True, kw_only=True):
    """All of hub.conf."""

    sites: tuple[SiteSection, ...] = ()
    listen: tuple[Address, ...] = ()
    public_address: tuple[Address, ...] = ()
    """The public address of this machine behind a 1:1 NAT: one address of a family."""
    map_servers: tuple[RemoteSection, ...] = ()
    proxy: ProxySection = ProxySection()
    rtrs: tuple[LinkSection, ...] = ()
    rtr: RtrSection = RtrSection()
    ddt: DdtSection = DdtSection()
    """Our place in the delegated database tree (RFC 8111)."""
    nat_dialects: tuple[Annotated[str, one_of("e19", "lispers-net")], ...] = ("e19",)
    state_file: Annotated[Path | None, or_word("none", typing.get_args(FilePath)[1])] = Path(
        "/var/lib/lispmob/hub.sqlite"
    )
    registry: RegistrySection = RegistrySection()
    """The servers of a registry that several hubs, or several processes of one, share."""
    workers: Annotated[int, whole(1, 64)] = 1
    """Serving processes; the first one carries the data."""
    invitations: InvitationsSection = InvitationsSection()
    sites_file: Annotated[Path | None, or_word("auto", typing.get_args(FilePath)[1])] = None
    """The file of invited sites; None: beside the state file."""
    own_eids: tuple[Eid, ...] = ()
    """EIDs of this machine itself, which uses LISP like a node."""
    security: SecuritySection = SecuritySection()
    control_socket: FilePath = DEFAULT_SOCKET
    log: LogSection = LogSection()

    def __post_init__(self) -> None:
        for index, address in enumerate(self.public_address):
            place = f"public-address[{index}]"
            if is_private(address):
                raise FieldError(place, f"{address} is a private address itself; the one that others send to is needed")
            if any(address.version == source.version for source in self.public_address[:index]):
                raise FieldError(place, f"{address}: one address of each family is enough")
        self._check_own_eids()
        self._check_workers()
        self._check_pools()
        owner: dict[EidPrefix, str] = dict.fromkeys(self.own_eids, "own-eids")
        names: set[str] = set()
        for number, section in enumerate(self.sites):
            if section.name in names:
                raise FieldError(f"sites[{number}].name", f"{section.name} is listed twice")
            names.add(section.name)
            for index, eid in enumerate(section.eids):
                if eid in owner:
                    raise FieldError(f"sites[{number}].eids[{index}]", f"{eid} belongs to site {owner[eid]} already")
                owner[eid] = section.name
        self._check_names()
        for number, link in enumerate(self.rtr.map_servers):
            if link.secret is None and self.security.lisp_sec == "require":
                raise FieldError(
                    f"rtr.map-servers[{number}]",
                    "security: lisp-sec is 'require': give the key shared with this Map-Server, 'key' or 'key-file'",
                )
            if link.secret is None and "e19" in self.nat_dialects:
                raise FieldError(
                    f"rtr.map-servers[{number}]",
                    "give the key shared with this Map-Server: 'key' or 'key-file'; without one any host could answer "
                    "in its name (only the lispers-net dialect, alone in nat-dialects, needs none)",
                )

    def _check_pools(self) -> None:
        """A hub address in a pool would become an EID one day, and nodes would look for the hub in the overlay."""
        for index, pool in enumerate(self.invitations.pools):
            for address in (*self.invitations.addresses, *self.public_address, *self.listen):
                if pool.covers(EidPrefix.host(address)):
                    why = f"{pool} holds {address}, by which nodes reach this hub"
                    raise FieldError(f"invitations.pools[{index}]", why)

    def _check_own_eids(self) -> None:
        for index, eid in enumerate(self.own_eids):
            place = f"own-eids[{index}]"
            if eid.instance_id or eid.mask_len != eid.width:
                raise FieldError(place, f"{eid}: one address in Instance-ID 0 is needed, for the device of the proxy")
            if not self.proxy.enabled and not self.rtr.enabled:
                raise FieldError(place, f"{eid}: needs 'proxy: {{enabled: yes}}' or 'rtr: {{enabled: yes}}'")

    def _check_workers(self) -> None:
        if self.workers > 1 and not self.registry.is_shared:
            raise FieldError("workers", "several processes share a registry: give 'registry: {valkey: ...}'")
        if self.own_eids and self.registry.is_shared:
            raise FieldError(
                "own-eids", "this hub alone would know them; with 'registry: {valkey: ...}' there are none"
            )

    def _check_names(self) -> None:
        listed = [
            (number, index, name) for number, one in enumerate(self.sites) for index, name in enumerate(one.names)
        ]
        for place, (number, index, name) in enumerate(listed):
            for other_number, _, other in listed[:place]:
                key, owner = f"sites[{number}].names[{index}]", self.sites[other_number].name
                if other_number == number and other == name:
                    raise FieldError(key, f"{name} is listed twice")
                if other_number != number and overlap(name, other):
                    raise FieldError(key, f"{name} belongs to site {owner} already, as {other}")

    def _own_names(self) -> tuple[tuple[str, ...], ...]:
        """The names of each site: without a list its own name, unless another site has that."""
        taken = [name for section in self.sites for name in section.names]
        found: list[tuple[str, ...]] = []
        for section in self.sites:
            own = label_of(section.name)
            if not section.names and own is not None and not any(overlap(own, other) for other in taken):
                taken.append(own)
                found.append((own,))
            else:
                found.append(section.names)
        return tuple(found)

    def to_sites(self) -> tuple[Site, ...]:
        """The sites for the Map-Server; the one of this machine itself has no key that could register."""
        names = self._own_names()
        sites = tuple(replace(one.to_site(), names=own) for one, own in zip(self.sites, names, strict=True))
        return (*sites, Site("own-eids", self.own_eids, ())) if self.own_eids else sites

    def to_traversal(self) -> TraversalPolicy:
        """The settings for nodes behind NATs."""
        return TraversalPolicy(
            rtrs=tuple(section.to_rtr() for section in self.rtrs),
            is_rtr=self.rtr.enabled,
            map_servers=tuple(section.to_map_server() for section in self.rtr.map_servers),
            served=self.proxied_eids,
            answers_e19="e19" in self.nat_dialects,
            answers_lispers="lispers-net" in self.nat_dialects,
            lisp_sec=cast(LispSecMode, self.security.lisp_sec),
        )

    def to_remotes(self) -> tuple[RemoteMapServer, ...]:
        """The other Map-Servers for the Map-Resolver."""
        return tuple(section.to_remote() for section in self.map_servers)

    @property
    def proxied_eids(self) -> tuple[EidPrefix, ...]:
        """The prefixes that the datapath handles; none if neither proxy nor RTR is on."""
        if not self.proxy.enabled and not self.rtr.enabled:
            return ()
        pools = [eid for eid in self.invitations.pools if not eid.instance_id]
        sites = (eid for section in self.sites for eid in section.eids if not eid.instance_id)
        return self.proxy.eids or (*pools, *(eid for eid in sites if not any(pool.covers(eid) for pool in pools)))

    @property
    def sites_path(self) -> Path | None:
        """The file of invited sites; None: there is no place for it."""
        beside = self.state_file.with_name(SITES_FILE) if self.state_file is not None else None
        return self.sites_file or beside

    def to_offer(self) -> Offer:
        """The settings that invited nodes get."""
        return self.invitations.to_offer(self.public_address or self.listen, self.security.lisp_sec)


class SitesFile(Section, frozen=True, kw_only=True):
    """A file of sites.d."""

    sites: tuple[SiteSection, ...]


def site_files(directory: Path) -> list[Path]:
    """The configuration files of sites.d, by name. Leftovers of editors have other endings."""
    return sorted(path for path in directory.glob("*.conf") if not path.name.startswith("."))


def with_more_sites(hub: HubFile, directory: Path) -> HubFile:
    """The configuration with the sites of a directory. Raises ConfigError."""
    for path in site_files(directory):
        more = read_yaml(path, SitesFile)
        try:
            hub = msgspec.structs.replace(hub, sites=(*hub.sites, *more.sites))
        except FieldError as bad:
            raise ConfigError(f"{path}: {bad}") from None
        if any(site.key for site in more.sites) and (problem := advice(path)) is not None:
            log.warning("%s", problem)
    return hub


def load_hub(path: Path) -> HubFile:
    """Read hub.conf, and the sites of sites.d beside it. Raises ConfigError; warns about keys that are not secret."""
    hub = with_more_sites(read_yaml(path, HubFile), path.parent / SITES_DIRECTORY)
    if hub.security.lisp_sec == "require" and (missing := why_no_key_wrap()) is not None:
        raise ConfigError(f"{path}: security.lisp-sec: 'require' cannot be kept: {missing}")
    if hub.ddt.uses_signatures:
        if not rsa_signatures.is_available():
            raise ConfigError(f"{path}: ddt: {rsa_signatures.MISSING}")
        try:
            hub.ddt.to_policy()
        except LispError as error:
            raise ConfigError(f"{path}: ddt: {error}") from None
    if hub.registry.is_shared and (missing := why_no_client(client_version())) is not None:
        raise ConfigError(f"{path}: registry: {missing}")
    try:
        hub.registry.check_tls()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{path}: registry.tls-ca: {hub.registry.tls_ca}: {error}") from None
    more = [key for section in hub.sites for key in (*section.more_keys, *section.map_resolver_keys)]
    keys = [entry.key for section in (hub.sites, more, hub.map_servers) for entry in section]
    if any(keys) and (problem := advice(path)) is not None:
        log.warning("%s", problem)
    if any(secret.octets == EXAMPLE_KEY for section in hub.sites for secret, _ in section.secrets):
        log.warning("%s still has the key of the example, which is public: choose another", path)
    for section in hub.sites:
        if section.strict_nonces is not True:
            who = "nodes that never count" if section.strict_nonces is None else "all nodes"
            log.warning(
                "site %s: old registrations of %s are accepted, so an attacker can replay them", section.name, who
            )
    return hub


def _check_key(key: Secret | None, key_file: Secret | None) -> None:
    if key is None and key_file is None:
        raise ValueError("give the shared key: 'key' (the key itself) or 'key-file' (a file that holds it)")
    if key is not None and key_file is not None:
        raise FieldError("key-file", "'key' is given too; one of them")
