"""lispctl ping and trace: round trips and routes inside and outside of the overlay side by side."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, WrongUsage, show
from lispmob.lispctl.show.peers import bare, inner_mtu, way_back
from lispmob.terminal.text import clean, fold, milliseconds, paint, plural

COUNT_MAX: Final = 1000
HOPS_MAX: Final = 30
_WAY: Final = ("way", "uplink", "local", "remote", "rtr", "back_uplink", "back_local", "back_remote")
SILENT_MAX: Final = 4  # ours: this many hops without an answer end a trace


def add_ping_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("peer", metavar="NAME|EID", help="the peer")
    parser.add_argument("-c", "--count", type=int, default=4, metavar="N", help="number of requests (default: 4)")
    parser.add_argument(
        "-i", "--interval", type=float, default=1.0, metavar="S", help="seconds between requests (default: 1)"
    )
    parser.add_argument(
        "-W", "--timeout", type=float, default=2.0, metavar="S", help="time to wait for an answer (default: 2 seconds)"
    )


def add_trace_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("peer", metavar="NAME|EID", help="the peer")
    parser.add_argument(
        "-W", "--timeout", type=float, default=1.0, metavar="S", help="time to wait for an answer (default: 1 second)"
    )


def check_ping(arguments: Namespace) -> None:
    """Raise WrongUsage for impossible numbers."""
    if not 1 <= arguments.count <= COUNT_MAX:
        raise WrongUsage(f"--count: {arguments.count} is not 1 to {COUNT_MAX}")
    if not 0.2 <= arguments.interval <= 60:
        raise WrongUsage(f"--interval: {arguments.interval:g} is not 0.2 to 60")
    check_trace(arguments)


def check_trace(arguments: Namespace) -> None:
    """The same."""
    if not 0.05 <= arguments.timeout <= 60:
        raise WrongUsage(f"--timeout: {arguments.timeout:g} is not 0.05 to 60")


def run_ping(client: Client, arguments: Namespace) -> int:
    """Ping the peer and its locator or RTR repeatedly. Returns 0 when the peer has answered at all, else 1."""
    import time

    from lispmob.lispctl.echoing import echo

    rounds: list[dict[str, Any]] = []
    for sequence in range(arguments.count):
        if sequence:
            time.sleep(arguments.interval)
        peer = client.call("peers", peer=arguments.peer)  # it may have moved, and so may we
        inside = echo(bare(peer["eid"]), None, sequence, arguments.timeout)
        peer = peer if peer["local"] is not None else client.call("peers", peer=arguments.peer)
        outer = peer["rtr"] or peer["remote"]
        outside = None if outer is None else echo(outer, peer["local"], sequence, arguments.timeout)
        rounds.append(
            {
                "inside_ms": inside.rtt_ms,
                "inside_why": inside.why,
                "outside_ms": None if outside is None else outside.rtt_ms,
                **{key: peer[key] for key in _WAY},
            }
        )
        if not arguments.json:
            print("\n".join(_round_lines(sequence + 1, rounds[-1])), flush=True)
    result = {"peer": client.call("peers", peer=arguments.peer), "rounds": rounds}
    show(result, arguments, _summary_lines)
    return 0 if any(one["inside_ms"] is not None for one in rounds) else 1


def _round_lines(number: int, one: dict[str, Any]) -> list[str]:
    inside = "no answer" if one["inside_ms"] is None else milliseconds(one["inside_ms"])
    outside = "no answer" if one["outside_ms"] is None else milliseconds(one["outside_ms"])
    refused = f"; {clean(one['inside_why'])}" if one.get("inside_why") is not None else ""
    line = f"{number:>3}  inside {inside:>9}  outside {outside:>9}  {_way(one)}{refused}"
    return fold(line if one["inside_ms"] is not None else paint(line, "bad"), rest="     ")


def _way(one: dict[str, Any]) -> str:
    if one["remote"] is None:
        return "no way"
    by = {"rtr": f"by the RTR {clean(one['rtr'])}", "past-rtr": "past the RTR"}.get(one["way"], "direct")
    return f"{clean(one['uplink'])}, {by}"


def _summary_lines(result: dict[str, Any]) -> list[str]:
    peer, rounds = result["peer"], result["rounds"]
    called = clean(peer["name"] or bare(peer["eid"]))
    lines = [f"{called}: inside {_figures(one['inside_ms'] for one in rounds)}"]
    outer = peer["rtr"] or peer["remote"]
    if outer is not None:
        lines.append(f"{clean(outer)}: outside {_figures(one['outside_ms'] for one in rounds)}")
        probes = "not measured" if peer["rtt_ms"] is None else milliseconds(peer["rtt_ms"])
        lost = "" if peer["loss"] is None else f", {peer['loss'] * 100:.1f}% lost"
        lines.append(f"RLOC-probes: {probes}{lost}")
        lines.append(f"way back: {way_back(peer)}")
    elif any(one["inside_ms"] is not None for one in rounds):
        lines.append(f"not through the overlay, but by this host's own routes: {clean(peer['why'])}")
    if all(one["outside_ms"] is None for one in rounds) and outer is not None:
        lines += fold("outside of the overlay the peer does not answer pings: its firewall may drop them", first="  ")
    return [line for text in lines for line in fold(text, rest="  ")]


def _figures(values: Any) -> str:
    every = list(values)
    known = [value for value in every if value is not None]
    lost = f"{plural(len(every), 'packet')}, {len(every) - len(known)} lost"
    if not known:
        return lost
    return f"{lost}, {min(known):.1f} / {sum(known) / len(known):.1f} / {max(known):.1f} ms (least, mean, most)"


def run_trace(client: Client, arguments: Namespace) -> int:
    """Show the route hop by hop outside, and as one hop inside. Returns 0 when the peer answers, else 1."""
    from lispmob.lispctl.echoing import echo, hop

    peer = client.call("peers", peer=arguments.peer)
    inside = echo(bare(peer["eid"]), None, 0, arguments.timeout)
    peer = peer if peer["local"] is not None else client.call("peers", peer=arguments.peer)
    outer, hops, silent = peer["rtr"] or peer["remote"], [], 0
    for number in range(1, HOPS_MAX + 1) if outer is not None else ():
        found = hop(outer, peer["local"], number, arguments.timeout, number)
        hops.append({"address": found.address, "rtt_ms": found.rtt_ms})
        silent = 0 if found.address is not None else silent + 1
        if found.is_last or found.why is not None or silent == SILENT_MAX:
            break
    result = {"peer": peer, "inside_ms": inside.rtt_ms, "inside_why": inside.why, "hops": hops}
    show(result, arguments, trace_lines)
    return 0 if inside.rtt_ms is not None else 1


def trace_lines(found: dict[str, Any]) -> list[str]:
    """The route for people."""
    peer, hops = found["peer"], found["hops"]
    refused = f", {clean(found['inside_why'])}" if found.get("inside_why") is not None else ""
    answer = f"no answer{refused}" if found["inside_ms"] is None else milliseconds(found["inside_ms"])
    called = f"{clean(peer['name'])} {clean(bare(peer['eid']))}" if peer["name"] else clean(bare(peer["eid"]))
    lines = fold(f"inside   to {called}: {answer}", rest="         ")
    if peer["remote"] is None:
        return [*lines, *fold(f"outside  no way: {clean(peer['why'])}", rest="         ")]
    lines += fold(f"outside  from {clean(peer['local'])} to {clean(peer['remote'])}: {_way(peer)}", rest="         ")
    while len(hops) > 1 and hops[-1]["address"] is None and hops[-2]["address"] is None:
        hops = hops[:-1]
    lines += [f"{at:>7}  {clean(one['address'] or '*')}  {_ms(one)}".rstrip() for at, one in enumerate(hops, 1)]
    lines += fold(f"back     {way_back(peer)}", rest="         ")
    if peer["loss"] is not None:
        lines.append(f"loss     {peer['loss'] * 100:.1f}% of the probes, there and back")
    if peer["mtu_bytes"] is not None:
        lines.append(f"MTU      {peer['mtu_bytes']} outside, {inner_mtu(peer)} inside")
    return lines


def _ms(one: dict[str, Any]) -> str:
    return "" if one["rtt_ms"] is None else milliseconds(one["rtt_ms"])


PING = Command(
    "ping", "measure round trips to a peer, inside and outside of the overlay", run_ping, add_ping_arguments, check_ping
)
TRACE = Command(
    "trace", "show the path to a peer hop by hop, outside of the overlay", run_trace, add_trace_arguments, check_trace
)
