"""Requests, replies and events of the control socket, version 1.

One JSON object a line, UTF-8, at most MAX_LINE_OCTETS from the client:

    -> {"v":1,"id":7,"method":"lookup","params":{"eid":"192.0.2.7"}}
    <- {"v":1,"id":7,"result":{...}}    or    {"v":1,"id":7,"error":{"code":"params","message":"..."}}
    <- {"v":1,"event":{"kind":"moved","at":"2026-01-31T12:00:00.123Z","fields":{...}}}       after `events` with follow

A reader ignores fields that it does not know; fields are added, never changed, within one version. Times of day are
ISO 8601 in UTC, durations have their unit in the name. EID-Prefixes are texts such as "[7]192.0.2.0/24", the
Instance-ID in brackets when it is not 0.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

API_VERSION: Final = 1
MAX_LINE_OCTETS: Final = 65536

ErrorCode: TypeAlias = Literal[
    "malformed",
    "too-long",
    "version",
    "method",
    "params",
    "denied",
    "not-found",
    "exists",
    "full",
    "refused",
    "busy",
    "internal",
]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request. `id` is returned in the reply."""

    v: int
    id: Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exactly one of `result` and `error`. `id` is None when the request could not be read."""

    v: int
    id: int | None
    result: Any = None
    error: Failure | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not done; `message` is a sentence for people. `errno`: "EEXIST" and the like, of mappings."""

    code: ErrorCode
    message: str
    errno: str | None = None


# --- events -----------------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened; the kinds are those of the control machines ("moved", "registered", "miss" ...)."""

    kind: str
    at: str
    fields: dict[str, Any] = {}


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    v: int
    event: Event


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """The latest events, oldest first; `is_following`: more will come, one line each."""

    events: list[Event]
    is_following: bool = False


# --- status -----------------------------------------------------------------------------------------------------------


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """One EID-Prefix at one Map-Server."""

    map_server: str
    state: Literal["idle", "registering", "registered", "failed"]
    since: str | None = None
    last_notify: str | None = None
    next_in_s: float | None = None
    rtt_ms: float | None = None
    problem: str | None = None


class EidStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One of our EID-Prefixes and its registrations."""

    prefix: str
    registrations: list[Registration] = []


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """An uplink; `note` says why an interface is not used, `type` is the word of lispd.conf.

    `is_metered` and `connectivity` are from NetworkManager; None if unknown. `network`: its SSID, or the name of
    NetworkManager's connection, or the link-layer address of its gateway if lispd.conf refers to one.
    """

    name: str
    ifindex: int
    addresses: list[str]
    priority: int
    weight: int
    mtu_bytes: int
    is_used: bool = True
    note: str | None = None
    is_metered: bool | None = None
    connectivity: Literal["none", "portal", "limited", "full"] | None = None
    type: str | None = None
    network: str | None = None


class NetCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What is between one address of an uplink and the Internet; null: unknown.

    `mapping` and `filtering` are the words of RFC 4787. The NAT keeps a binding for `lifetime_at_least_s`, and not for
    `lifetime_below_s`. `passes_zero_checksum`: packets without a UDP checksum reach the RTR, so that the BPF programs
    may send them. `nat64`: the prefix of a translator to IPv4; with a `seen_address` a Map-Server was heard by it.
    """

    uplink: str
    address: str
    state: str
    dialect: str | None = None
    seen_address: str | None = None
    seen_port: int | None = None
    has_nat: bool | None = None
    has_firewall: bool | None = None
    mapping: str | None = None
    filtering: str | None = None
    lifetime_at_least_s: float | None = None
    lifetime_below_s: float | None = None
    keepalive_s: float | None = None
    rtr: str | None = None
    rtr_rtt_ms: float | None = None
    passes_zero_checksum: bool | None = None
    nat64: str | None = None


class LocalLocator(msgspec.Struct, frozen=True, kw_only=True):
    """One of our own RLOCs as we register it; behind a NAT its data goes through `rtr`.

    `nat64`: the prefix of the translator that leads there, where the RTR has IPv4 and the locator has not.
    """

    address: str
    interface: str
    priority: int
    weight: int
    rtr: str | None = None
    nat64: str | None = None


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel sends into the overlay."""

    mode: Literal["split", "full"]
    fallback: Literal["auto", "native", "proxy", "drop"]
    tun: str
    mtu_bytes: int
    overlay_prefixes: list[str] = []


class Datapath(msgspec.Struct, frozen=True, kw_only=True):
    """Which tier moves packets, and how many it moved; `drops` counts every reason together.

    `marks`: what makes the mark of a packet choose its uplink, a program in the TUN or a device per uplink.
    """

    tier: str
    why: str
    marks: Literal["program", "devices", "none"] = "none"
    marks_why: str = ""
    packets_out: int = 0
    packets_in: int = 0
    octets_out: int = 0
    octets_in: int = 0
    drops: int = 0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a move, in milliseconds after its detection.

    `what` is a word such as "uplink", "address", "register", "notify", "smr", "first-packet-out", "first-packet-in".
    """

    at_ms: float
    what: str
    detail: str = ""


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one move. A gap is the silence in one direction, None while it is not known.

    `moved_after_ms` is from the event to the datapath's sending by the uplinks that are left. `left` and `took`: the
    uplinks in use before and after, as "wifi wlan0". `lost`: packets of this host that could not be sent meanwhile.
    """

    id: int
    started_at: str
    reasons: list[str]
    steps: list[Step]
    moved_after_ms: float | None = None
    gap_out_ms: float | None = None
    gap_in_ms: float | None = None
    left: list[str] = []
    took: list[str] = []
    lost: int = 0


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not work, or is probably a mistake. `key` is stable; `subject` is what it is about, "": all.

    "notice": no loss of service, "degraded": a partial loss, "broken": no service.
    """

    key: str
    severity: Literal["notice", "degraded", "broken"]
    what: str
    cause: str = ""
    remedy: str = ""
    subject: str = ""
    since_s: float = 0.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All that `lispctl status` shows. `problems` are the gravest first; `headline` sums them up in a line."""

    state: Literal["starting", "offline", "registering", "partly-registered", "registered", "stopping"]
    version: str
    pid: int
    started_at: str
    uptime_s: float
    eids: list[EidStatus]
    uplinks: list[Uplink]
    locators: list[LocalLocator]
    locator_set_version: int
    routing: Routing
    datapath: Datapath
    map_cache_size: int
    map_cache_limit: int
    last_handover: Handover | None = None
    verdict: Literal["working", "degraded", "not-working"] = "working"
    headline: str = "working"
    problems: list[Problem] = []
    map_resolvers: list[str] = []
    sealed: str = "not known"


# --- the other methods ------------------------------------------------------------------------------------------------


class RemoteLocator(msgspec.Struct, frozen=True, kw_only=True):
    """An RLOC in the map-cache."""

    address: str
    priority: int = 1
    weight: int = 100
    is_reachable: bool = True
    rtt_ms: float | None = None


class MapCacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping of another site. `expires_in_s` None: never. `is_genuine`: authenticated by LISP-SEC.

    `told_by`: the source of the last unsolicited change, "published" by the Map-Server (RFC 9437) or "announced" by the
    peer in its sealed session. `is_subscribed`: the Map-Server publishes its changes.
    """

    prefix: str
    source: str
    action: str
    locators: list[RemoteLocator] = []
    age_s: float = 0.0
    expires_in_s: float | None = None
    unused_s: float | None = None
    map_version: int = 0
    is_genuine: bool = False
    told_by: str = ""
    is_subscribed: bool = False


class MapCache(msgspec.Struct, frozen=True, kw_only=True):
    """The map-cache, in the order of its prefixes."""

    entries: list[MapCacheEntry]
    limit: int


class DatabaseEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One of our own mappings, as we register it and answer with it. `map_version` (RFC 9302): 0 is none."""

    prefix: str
    locators: list[LocalLocator]
    ttl_min: int
    map_version: int = 0


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to a packet to `eid`. `locator` is the one that most of its flows take; `why`: a sentence."""

    eid: str
    verdict: Literal["own", "encapsulate", "native", "drop", "ask"]
    entry: MapCacheEntry | None = None
    locator: str | None = None
    why: str | None = None


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of a local locator and a remote one, as measured by probes. Figures are None until one was answered.

    `loss` is a share of the last `probes`; `since_s` is how long the state has lasted. `is_preferred` False: its uplink
    waits behind one of its own priority that is better, or cheaper. `cost`: the user's figure. `mtu_bytes`: the largest
    outer packet, and `mtu_source` its origin: the interface, ICMP, or an answered probe; `default`: unknown. Pairs with
    an RTR have no figures but these. `seal`: how packets to the EIDs behind it leave, and why.
    """

    local: str
    interface: str
    remote: str
    state: Literal["unknown", "up", "verifying", "down"]
    why: str
    since_s: float
    rtt_ms: float | None = None
    rtt_min_ms: float | None = None
    jitter_ms: float | None = None
    loss: float | None = None
    probes: int = 0
    heard_s: float | None = None
    is_preferred: bool = True
    cost: int = 0
    mtu_bytes: int | None = None
    mtu_source: Literal["default", "interface", "icmp", "probed"] = "default"
    seal: str = "not known"


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """How many entries a change touched."""

    count: int


class Nudged(msgspec.Struct, frozen=True, kw_only=True):
    """`is_now` False: the network was looked at a moment ago, and will be again in a moment."""

    is_now: bool


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the configuration that changed, and those among them that wait for a restart."""

    changed: list[str]
    needs_restart: list[str] = []


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """Of the daemon and of this schema."""

    version: str
    api: int = API_VERSION


# --- parameters -------------------------------------------------------------------------------------------------------


class NoParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For the methods that need nothing to know."""


class EventsParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kinds` empty: every kind. `recent`: how many past events come first."""

    kinds: list[str] = []
    follow: bool = False
    recent: int = 256


class LookupParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`eid` is an address."""

    eid: str
    instance_id: int = 0


class PrefixParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For map-cache-delete."""

    prefix: str


class MapCacheAddParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A static mapping; without locators `action` applies to its packets."""

    prefix: str
    locators: list[RemoteLocator] = []
    action: Literal["drop", "native"] = "drop"
