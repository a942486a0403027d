"""lispctl why: how lispd treats a flow, and for which reasons."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.errors import LispError
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, fold, paint

_EXAMPLES = (
    "examples: lispctl why tcp 10.0.0.2:443 --user alice;  lispctl why 10.0.0.2;  lispctl why udp [2001:db8::2]:53"
)


class NoFlow(LispError):
    """The words do not name a flow; the text says how to write one."""


def read_end(text: str, what: str) -> tuple[str, int | None]:
    """(address, port): 10.0.0.2, 10.0.0.2:443, 2001:db8::2, [2001:db8::2]:443, or ":40000" for a port alone."""
    address, port = text, ""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    if port and not (port.isdecimal() and int(port) <= 65535):
        raise NoFlow(f"{what} {text!r}: {port!r} is no port; write 10.0.0.2:443, or [2001:db8::2]:443")
    return address, int(port) if port else None


def read_words(words: list[str]) -> tuple[str | None, str, int | None]:
    """(protocol, address, port) of `[PROTOCOL] DESTINATION`. "ping" is ICMP of either family."""
    if not 1 <= len(words) <= 2:
        raise NoFlow("a flow is [PROTOCOL] DESTINATION[:PORT], such as: tcp 10.0.0.2:443")
    protocol = words[0].lower() if len(words) == 2 else None
    address, port = read_end(words[-1], "destination")
    if not address:
        raise NoFlow(f"destination {words[-1]!r}: there is no address in it")
    return "icmp" if protocol == "ping" else protocol, address, port


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.epilog = _EXAMPLES
    flow_help = "protocol (tcp, udp, icmp or ping, a number), then address or address:port"
    parser.add_argument("flow", nargs="+", metavar="FLOW", help=flow_help)
    parser.add_argument("--from", dest="source", metavar="ADDRESS[:PORT]", help="source; for a port alone write :40000")
    parser.add_argument("--user", metavar="NAME", help="user of the sending process (default: you)")
    parser.add_argument("--group", metavar="NAME", help="group of the sending process")
    parser.add_argument("--cgroup", metavar="PATH", help="control group of the sending process")
    parser.add_argument("--mark", metavar="NUMBER", help="mark that the packet already has (SO_MARK)")
    parser.add_argument("--dscp", metavar="VALUE", help="a number or a name such as ef")
    parser.add_argument(
        "--in",
        dest="from_interface",
        metavar="INTERFACE",
        help="the packet is forwarded, and arrives at this interface",
    )
    parser.add_argument("--flow", dest="flow_name", metavar="NAME", help="the flow is to this name (see lispflow)")
    parser.add_argument("--class", dest="flow_class", metavar="CLASS", help="the class of that flow, such as voice")
    parser.add_argument("--came-in-by", metavar="UPLINK", help="the flow answers one that came in by this uplink")


def run(client: Client, arguments: Namespace) -> int:
    """Print the decision."""
    return show(client.call("why", **flow_params(arguments)), arguments, why_lines)


def flow_params(arguments: Namespace) -> dict[str, Any]:
    """The parameters for the daemon from the words that were typed. Raises NoFlow."""
    protocol, destination, port = read_words(arguments.flow)
    source, source_port = read_end(arguments.source, "source") if arguments.source else ("", None)
    user, cgroup = arguments.user, arguments.cgroup
    is_ours = arguments.from_interface is None and source_port is None
    if is_ours and (user, arguments.group, cgroup) == (None, None, None):
        import os

        user, cgroup = str(os.geteuid()), own_cgroup()
    params = {
        "destination": destination,
        "port": port,
        "protocol": protocol,
        "source": source or None,
        "source_port": source_port,
        "user": user,
        "group": arguments.group,
        "cgroup": cgroup,
        "mark": arguments.mark,
        "dscp": arguments.dscp,
        "from_interface": arguments.from_interface,
        "came_in_by": arguments.came_in_by,
        "flow_name": arguments.flow_name,
        "flow_class": arguments.flow_class,
    }
    return {name: value for name, value in params.items() if value is not None}


def own_cgroup() -> str | None:
    """Our control group in the unified hierarchy; None: there is none."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as lines:
            return next((line.strip()[3:] for line in lines if line.startswith("0::/")), None)
    except OSError:
        return None


def why_lines(why: dict[str, Any]) -> list[str]:
    """The decision for people: the steps, and the result."""
    lines = [clean(why["flow"])]
    stage = None
    for step in why["steps"]:
        name = step["stage"] if step["stage"] != stage else ""
        stage = step["stage"]
        lines += fold(clean(step["text"]), first=f"  {name:<8} ")
    return [*lines, f"  {'=':<8} {_result(why)}"]


def _result(why: dict[str, Any]) -> str:
    doubt = "" if why["is_certain"] else paint("  (not certain: see above)", "warn")
    choices = why["choices"]
    if why["outcome"] == "overlay":
        shares = {choice["uplink"]: 0.0 for choice in choices}
        for choice in choices:
            shares[choice["uplink"]] += choice["share"]
        named = [
            clean(name) if len(shares) == 1 else f"{clean(name)} {share * 100:.0f} %" for name, share in shares.items()
        ]
        leaves = "leaves by " + " or ".join(named)
        if silent := why.get("silent"):
            verb = "does" if len(silent) == 1 else "do"
            return paint(f"{leaves}, and {', '.join(map(clean, silent))} {verb} not answer", "bad") + doubt
        return paint(leaves, "good") + doubt
    words = {
        "native": "leaves without LISP",
        "dropped": paint("is dropped", "bad"),
        "waits": paint("waits", "warn"),
        "own": "stays on this host",
    }
    return words.get(why["outcome"], clean(why["outcome"])) + doubt


COMMAND = Command("why", "explain which uplink and locators a flow takes, step by step", run, add_arguments)
