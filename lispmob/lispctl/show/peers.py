"""lispctl peers: the peers that packets go to, by which path, and how well."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, duration, facts, fold, milliseconds, octets, paint, plural, table

NAMES_S: Final = 0.03  # ours: a name that was asked for before is there after a round trip
_SEALED: Final = {"sealed": "sealed", "clear": "in clear", "waiting": "kept until they can be sealed"}
_SAID_BY: Final = {
    "map-reply": "from a Map-Reply",
    "published": "published by the Map-Server",
    "announced": "announced by the peer in its session",
    "static": "from the configuration, or by hand",
    "program": "from a program on this host",
}
_WAYS: Final = {"direct": "direct", "rtr": "RTR", "past-rtr": "past the RTR", "none": "none"}


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("peer", nargs="?", metavar="NAME|EID", help="show only this peer, with all details")


def run(client: Client, arguments: Namespace) -> int:
    """Print all peers, or one."""
    if arguments.peer is not None:
        return show(client.call("peers", peer=arguments.peer), arguments, peer_lines)
    found = client.call("peers")
    if found["names_asked"]:
        import time

        time.sleep(NAMES_S)
        found = client.call("peers")
    return show(found, arguments, lambda result: peers_lines(result["entries"]))


def peers_lines(peers: list[dict[str, Any]]) -> list[str]:
    """All peers, those with recent packets first."""
    if not peers:
        return ["no peers: no packet has gone to a node that is there now"]
    peers = sorted(peers, key=_order)
    has_seal = any(_seal(peer) not in ("clear", "waiting", "-") for peer in peers)
    headers = [
        "NAME",
        "EID",
        "WAY",
        "UPLINK",
        "RTT",
        "LOSS",
        "HEARD",
        "SENT",
        "RECEIVED",
        *(["SEAL"] if has_seal else []),
    ]
    rows = [[*_row(peer), *([_seal(peer)] if has_seal else [])] for peer in peers]
    silent = [peer for peer in peers if not peer["is_reachable"]]
    lines = table(headers, rows, right=("RTT", "LOSS", "HEARD", "SENT", "RECEIVED"))
    told = ", ".join(_called(peer) for peer in silent[:5]) + (", ..." if len(silent) > 5 else "")
    return lines + ([paint(line, "bad") for line in fold(f"no answer from {told}")] if silent else [])


def peer_lines(peer: dict[str, Any]) -> list[str]:
    """One peer, with every known fact."""
    way = _WAYS.get(peer["way"], clean(peer["way"])) + (f": {clean(peer['why'])}" if peer.get("why") else "")
    if peer.get("rtr"):
        way += f" {clean(peer['rtr'])}"
    pairs = [("name", clean(peer["name"])), ("EID", clean(peer["eid"])), ("way", way)]
    if peer.get("uplink") is not None:
        pairs.append(("uplink", f"{clean(peer['uplink'])}, from {clean(peer['local'])} to {clean(peer['remote'])}"))
        lost = "" if peer["loss"] is None else f", {peer['loss'] * 100:.1f}% of the probes lost"
        pairs.append(("round trip", f"{milliseconds(peer['rtt_ms'])}{lost}"))
        pairs.append(("answers", "yes" if peer["is_reachable"] else paint("no", "bad")))
    pairs.append(("way back", way_back(peer)))
    pairs.append(("used", "never" if peer["used_s"] is None else f"{duration(peer['used_s'])} ago"))
    if peer.get("packets_out") is not None:
        where = clean(peer["rtr"] or peer["remote"])
        pairs.append(("sent", f"{plural(peer['packets_out'], 'packet')}, {octets(peer['octets_out'])}, to {where}"))
        pairs.append(("received", f"{plural(peer['packets_in'], 'packet')}, {octets(peer['octets_in'])}, from there"))
    if peer.get("mtu_bytes") is not None:
        pairs.append(("MTU", f"{peer['mtu_bytes']} outside, {inner_mtu(peer)} inside"))
    pairs.append(("mapping", mapping_of(peer)))
    if (seal := peer.get("seal")) is not None:
        pairs.append(("packets are", f"{_SEALED.get(seal['state'], clean(seal['state']))}: {clean(seal['why'])}"))
    return facts(pairs)


def mapping_of(peer: dict[str, Any]) -> str:
    """The source of the latest mapping, and whether it is proved."""
    version = f", version {peer['map_version']}" if peer.get("map_version") else ""
    source = peer.get("mapping_from")
    if source is None and peer["way"] == "none":
        return "none yet: lispd asks for it when a packet is sent there"
    said = _SAID_BY.get(source or "", "from a source that is not known") + version
    if source in ("static", "program"):
        return said
    return f"{said}; {'genuine by LISP-SEC' if peer['is_genuine'] else 'not proved by LISP-SEC'}"


def way_back(peer: dict[str, Any]) -> str:
    """The source address of the peer's last data, and when: the peer may use another path than we do."""
    if peer.get("heard_s") is None:
        return "never heard"
    ago = f"heard {duration(peer['heard_s'])} ago"
    if peer.get("back_remote") is None:
        return ago
    uplink = f"{clean(peer['back_uplink'])}, " if peer.get("back_uplink") is not None else ""
    by = " (the RTR)" if peer["back_remote"] == peer["rtr"] else ""
    return f"{uplink}from {clean(peer['back_remote'])}{by} to {clean(peer['back_local'])}, {ago}"


def inner_mtu(peer: dict[str, Any]) -> int:
    """The inner MTU: the outer packet without IP, UDP and LISP headers (RFC 9300, 7.1)."""
    outside: int = peer["mtu_bytes"]
    return outside - (56 if ":" in (peer["rtr"] or peer["remote"]) else 36)


def _order(peer: dict[str, Any]) -> tuple[float, str]:
    return (float("inf") if peer["used_s"] is None else peer["used_s"] // 60, peer["name"] or peer["eid"])


def _called(peer: dict[str, Any]) -> str:
    return clean(peer["name"] or bare(peer["eid"]))


def bare(eid: str) -> str:
    """An EID-Prefix that is one address, without its length."""
    address, _, length = eid.partition("/")
    return address if length == ("128" if ":" in address else "32") else eid


def _row(peer: dict[str, Any]) -> list[Any]:
    loss = "-" if peer["loss"] is None else f"{peer['loss'] * 100:.0f}%"
    way = _WAYS.get(peer["way"], peer["way"])
    amounts = ["-" if (count := peer.get(key)) is None else octets(count) for key in ("octets_out", "octets_in")]
    rtt, heard = milliseconds(peer["rtt_ms"]), duration(peer["heard_s"])
    return [peer["name"], bare(peer["eid"]), way, peer["uplink"], rtt, loss, heard, *amounts]


def _seal(peer: dict[str, Any]) -> str:
    return clean(peer["seal"]["state"]) if peer.get("seal") is not None else "-"


COMMAND = Command("peers", "list the peers, their paths and how well they work", run, add_arguments)
