"""lisp-echo: measures what gets through between two EIDs, for example during a move.

Exit codes: 0 everything was answered, 1 nothing was answered, or it failed to start, 2 wrong usage, 4 a part was lost,
130 interrupted before anything was sent. The server exits with 0 on SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TextIO

from lispmob.api.client import DEFAULT_SOCKET
from lispmob.errors import LispError
from lispmob.options import HelpfulParser, ShowVersion
from lispmob.tools.echo_client import Course, EchoClient, Line, NoPeer, TcpLine, UdpLine
from lispmob.tools.echo_message import DEFAULT_PORT, LONGEST, SHORTEST
from lispmob.tools.echo_server import EchoServer
from lispmob.tools.echo_tally import COUNT_LIMIT
from lispmob.tools.echo_text import Session, as_json, lines, uplink_shares
from lispmob.tools.echo_uplink import UplinkWatch
from lispmob.tools.own import own_node
from lispmob.wire.address import IpAddress

EXIT_NOTHING: Final = 1
EXIT_LOST: Final = 4
EXIT_INTERRUPTED: Final = 130
DEFAULT_CONFIGURATION: Final = Path("/etc/lispmob/lispd.conf")


def build_parser() -> argparse.ArgumentParser:
    """The parser; completion files and man pages are generated from it."""
    parser = HelpfulParser(
        prog="lisp-echo", description="Measure what gets through between two EIDs, over UDP and TCP."
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = HelpfulParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, for programs")
    common.add_argument(
        "-p", "--port", type=_port, default=DEFAULT_PORT, metavar="N", help="port (default %(default)s)"
    )
    common.add_argument(
        "--socket", default=DEFAULT_SOCKET, metavar="PATH", help="lispd's socket (default: %(default)s)"
    )

    what = "answer, on the EIDs of this host"
    server = commands.add_parser("server", parents=[common], help=what, description=what)
    server.add_argument(
        "-b", "--bind", action="append", default=[], type=_address, metavar="ADDRESS",
        help="answer there instead; :: and 0.0.0.0 are all addresses",
    )  # fmt: skip
    server.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIGURATION, metavar="PATH", help="read when lispd does not run"
    )
    only = server.add_mutually_exclusive_group()
    only.add_argument("--udp", action="store_true", help="over UDP alone")
    only.add_argument("--tcp", action="store_true", help="over TCP alone")

    what = "ask, and tell what was lost, late, twice or out of order"
    client = commands.add_parser("client", parents=[common], help=what, description=what)
    client.add_argument("peer", type=_address, metavar="EID", help="where a server runs")
    client.add_argument("--tcp", action="store_true", help="over one TCP connection instead of UDP")
    client.add_argument(
        "-c", "--count", type=_count, default=50, metavar="N", help="packets (default %(default)s); 0: until Ctrl-C"
    )
    client.add_argument(
        "-i", "--interval", type=_interval, default=0.1, metavar="S", help="between them (default %(default)s)"
    )
    client.add_argument(
        "-s", "--size", type=_size, default=100, metavar="N", help="octets of each (default %(default)s)"
    )
    client.add_argument(
        "-w", "--wait", type=_wait, default=2.0, metavar="S", help="for the last answers (default %(default)s)"
    )
    client.add_argument("--source", type=_address, metavar="ADDRESS", help="our address to send from")
    client.add_argument(
        "-v", "--verbose", action="store_true", help="a line for every answer; with --json on standard error"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 65535")
    return int(text)


def _address(text: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IPv4 or IPv6 address") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > COUNT_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 to {COUNT_LIMIT}")
    return int(text)


def _size(text: str) -> int:
    if not text.isdecimal() or not SHORTEST <= int(text) <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not {SHORTEST} to {LONGEST} octets")
    return int(text)


def _seconds(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {low:g} to {high:g} seconds")
    return value


def _interval(text: str) -> float:
    return _seconds(text, 0.001, 3600.0)


def _wait(text: str) -> float:
    return _seconds(text, 0.0, 3600.0)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of `lisp-echo`."""
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.command == "server":
            return asyncio.run(_serve(arguments))
        return asyncio.run(_measure(arguments))
    except LispError as error:
        print(f"lisp-echo: {error}", file=sys.stderr)
        return EXIT_NOTHING
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


async def _serve(arguments: argparse.Namespace) -> int:
    addresses = list(dict.fromkeys(arguments.bind)) or _own_eids(arguments)
    stop, server = asyncio.Event(), EchoServer()
    _on_signals(stop)
    try:
        await server.start(addresses, arguments.port, udp=not arguments.tcp, tcp=not arguments.udp)
    except OSError as error:
        where = ", ".join(map(str, addresses))
        raise NoPeer(f"cannot answer on {where} port {arguments.port}: {error.strerror or error}") from None
    listed = list(map(str, addresses))
    text = f"lisp-echo: answering on {', '.join(listed)} port {arguments.port}"
    print(json.dumps({"listening": listed, "port": arguments.port}) if arguments.json else text, flush=True)
    await stop.wait()
    await server.stop()
    counters = dict(sorted(server.answering.counters.items()))
    told = ", ".join(f"{name} {count}" for name, count in counters.items()) or "no questions"
    print(json.dumps({"counters": counters}) if arguments.json else f"lisp-echo: {told}", flush=True)
    return 0


def _own_eids(arguments: argparse.Namespace) -> list[IpAddress]:
    """The EIDs of this host. A server that is bound to EIDs is reached through the overlay alone. Raises NoPeer."""
    node = own_node(arguments.socket, arguments.config)
    if not node.eid_addresses:
        raise NoPeer(
            f"no EID of this host is known; name an address with --bind: {node.why_not or 'none is an address'}"
        )
    return sorted(node.eid_addresses, key=lambda address: (address.version, address))


async def _measure(arguments: argparse.Namespace) -> int:
    course = Course(arguments.count, arguments.interval, arguments.size, arguments.wait)
    where = sys.stderr if arguments.json else sys.stdout
    client = EchoClient(
        course, (lambda number, rtt_s: _print_answer(number, rtt_s, where)) if arguments.verbose else None
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, client.stop)
    peer, port, transport = arguments.peer, arguments.port, "tcp" if arguments.tcp else "udp"
    line: Line = (
        await TcpLine.open(client, peer, port, arguments.source)
        if arguments.tcp
        else UdpLine(client, peer, port, arguments.source)
    )
    own, own_port = line.own
    flow = {"destination": str(peer), "port": port, "protocol": transport, "source": own, "source_port": own_port}
    watch = UplinkWatch(arguments.socket, flow)
    await loop.run_in_executor(None, watch.start)
    await client.run(line)
    await loop.run_in_executor(None, watch.stop)
    uplinks, changes = uplink_shares(client.tally, watch.timeline) if watch.problem is None else ((), ())
    result = client.tally.result()
    session = Session(
        str(peer), port, transport.upper(), own, result, uplinks, changes, watch.problem or "", tuple(client.problems)
    )
    print(json.dumps(as_json(session), indent=2) if arguments.json else "\n".join(lines(session)))
    if not result.sent:
        return EXIT_INTERRUPTED
    return EXIT_NOTHING if not result.answered else EXIT_LOST if result.lost else 0


def _print_answer(number: int, rtt_s: float, where: TextIO) -> None:
    print(f"#{number}  {rtt_s * 1000:.1f} ms", file=where, flush=True)


if __name__ == "__main__":
    sys.exit(main())
