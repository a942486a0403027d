"""lispflow: flows to names for the shell.

Exit codes: 0 done, 1 no flow (the message says why), 2 wrong usage, 3 lispd does not provide flows here, 130
interrupted; with a command, the command's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lispmob.flow import packets
from lispmob.flow.caller import FLOW_PORT
from lispmob.flow.client import Connection, Flow, Name, allocate, connect, register
from lispmob.flow.direct import DirectConnection
from lispmob.flow.errors import FlowError, NameNotFound, NoFlowDaemon, PeerGone, TimedOut
from lispmob.flow.quality import FlowClass, Quality, Wish
from lispmob.options import ShowVersion

EXIT_NO_FLOW: Final = 1
EXIT_NO_DAEMON: Final = 3
EXIT_INTERRUPTED: Final = 130
LAST_WORDS_S: Final = 2.0  # after the end of its input `call` listens until the peer has been silent for so long
PING_WAIT_S: Final = 1.0
RESOLVE_S: Final = 30.0
_CHUNK: Final = 65536
_USUAL_DATAGRAM: Final = 1200  # octets, if the kernel knows no path MTU


def build_parser() -> argparse.ArgumentParser:
    """The parser; completion files and man pages are generated from it."""
    parser = argparse.ArgumentParser(prog="lispflow", description="Flows to names: UDP sockets between EIDs, by name.")
    parser.add_argument(
        "--socket", type=Path, default=packets.DEFAULT_SOCKET, metavar="PATH", help="where lispd takes flows"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    call = commands.add_parser("call", help="a flow to NAME, as standard input and output")
    call.add_argument("name", metavar="NAME", help="such as backup.nas, or backup@10.99.0.2")
    _call_options(call)
    call.add_argument(
        "--linger", type=float, default=LAST_WORDS_S, metavar="S",
        help="after the end of the input, listen until the peer was silent for so long (default %(default)s)",
    )  # fmt: skip
    call.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="gets the socket as fd 0 and 1")

    listen = commands.add_parser("listen", help="hold NAME and take calls")
    listen.add_argument("name", metavar="NAME")
    listen.add_argument("--replace", action="store_true", help="take NAME from the program that holds it; for root")
    listen.add_argument("--once", action="store_true", help="take one call and end with it")
    listen.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="one process a flow, the socket as fd 0 and 1"
    )

    resolve = commands.add_parser("resolve", help="which EIDs a name stands for, and who said so")
    resolve.add_argument("name", metavar="NAME")

    ping = commands.add_parser("ping", help="how long an allocation to NAME takes")
    ping.add_argument("name", metavar="NAME")
    ping.add_argument("-c", "--count", type=int, default=3, metavar="N")
    _call_options(ping)

    commands.add_parser("list", help="the flows and names of this user; root sees all")
    return parser


def _call_options(parser: argparse.ArgumentParser) -> None:
    classes = [flow_class.name.lower() for flow_class in FlowClass]
    parser.add_argument("--qos", choices=classes, default="default", help="what the flow is for; decides its DSCP")
    parser.add_argument("--cheap", action="store_true", help="by no metered uplink")
    parser.add_argument("--via", action="append", default=[], metavar="UPLINK", help="an uplink, by name or pattern")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="how long to wait for an answer")
    parser.add_argument(
        "--port", type=int, default=FLOW_PORT, metavar="N", help="of NAME@EID, where no lispd runs here"
    )
    parser.add_argument("--protocol", type=int, choices=(0, 1), default=1, help="0: a bare name and its echo")


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of `lispflow`."""
    arguments = build_parser().parse_args(argv)
    try:
        return _COMMANDS[arguments.verb](arguments)
    except PeerGone:  # the peer's end of the flow is the normal end of the command
        return 0
    except NoFlowDaemon as error:
        print(f"lispflow: {error}", file=sys.stderr)
        return EXIT_NO_DAEMON
    except (FlowError, OSError) as error:
        print(f"lispflow: {error}", file=sys.stderr)
        return EXIT_NO_FLOW
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _allocate(arguments: argparse.Namespace) -> Flow:
    flags = Wish.CHEAP if arguments.cheap else 0
    return allocate(
        arguments.name,
        qos=Quality(FlowClass[arguments.qos.upper()], flags),
        via=arguments.via,
        timeout=arguments.timeout,
        caller=f"{os.environ.get('USER', '')}@{os.uname().nodename}"[:64],
        protocol=arguments.protocol,
        path=arguments.socket,
        port=arguments.port,
    )


def _call(arguments: argparse.Namespace) -> int:
    with _allocate(arguments) as flow:
        _say(arguments, "open", flow)
        if command := _command(arguments):
            return _run(command, flow)
        return _relay(flow, arguments.linger)


def _listen(arguments: argparse.Namespace) -> int:
    command = _command(arguments)
    with register(arguments.name, replace=arguments.replace, path=arguments.socket) as name:
        print(f"lispflow: {name.name} is held here", file=sys.stderr)
        if arguments.once or not command:
            return _serve_one_by_one(arguments, name, command)
        return _serve(arguments, name, command)


def _serve_one_by_one(arguments: argparse.Namespace, name: Name, command: list[str]) -> int:
    while True:
        with name.accept() as flow:
            _say(arguments, "flow", flow)
            code = 0
            with contextlib.suppress(PeerGone):
                code = _run(command, flow) if command else _relay(flow)
        if arguments.once:
            return code


def _serve(arguments: argparse.Namespace, name: Name, command: list[str]) -> int:
    """Start a process for each flow; a flow ends with its process."""
    running: list[tuple[subprocess.Popen[bytes], Flow]] = []
    while True:
        with contextlib.suppress(TimedOut):
            flow = name.accept(0.5 if running else None)
            _say(arguments, "flow", flow)
            try:
                running.append((_start(command, flow), flow))
            except OSError as error:
                print(f"lispflow: {command[0]}: {error.strerror}", file=sys.stderr)
                flow.close()
        for process, flow in [pair for pair in running if pair[0].poll() is not None]:
            running.remove((process, flow))
            flow.close()


def _start(command: list[str], flow: Flow) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "LISPFLOW_NAME": flow.name, "LISPFLOW_PEER": flow.peer}
    fd = flow.socket.fileno()
    return subprocess.Popen(command, stdin=fd, stdout=fd, env=environment)


def _run(command: list[str], flow: Flow) -> int:
    try:
        return _start(command, flow).wait()
    except FileNotFoundError:
        print(f"lispflow: {command[0]}: there is no such command", file=sys.stderr)
        return 127
    except PermissionError:
        print(f"lispflow: {command[0]}: cannot be executed", file=sys.stderr)
        return 126


def _relay(flow: Flow, linger_s: float = LAST_WORDS_S) -> int:
    """Copy standard input to the peer, a datagram for each read, and the peer's datagrams to standard output.

    After the end of the input it continues until the peer ends the flow, or has been silent for `linger_s`.
    """
    try:
        return _relay_both(flow, linger_s)
    except PeerGone:
        with contextlib.suppress(PeerGone, TimedOut):  # datagrams may have arrived just before the end
            while True:
                os.write(1, flow.recv(_CHUNK, timeout=0))
        raise


def _relay_both(flow: Flow, linger_s: float) -> int:
    selector = selectors.DefaultSelector()
    selector.register(flow.socket, selectors.EVENT_READ, "peer")
    selector.register(flow.connection, selectors.EVENT_READ, "lispd")
    try:
        selector.register(0, selectors.EVENT_READ, "input")
    except PermissionError:  # a file, or /dev/null: always readable
        return _relay_file(flow, linger_s)
    limit = flow.max_datagram or _USUAL_DATAGRAM
    end_at: float | None = None
    while end_at is None or time.monotonic() < end_at:
        for key, _ in selector.select(_wait_s(flow, end_at)):
            if key.data == "peer":
                _write(flow)
                end_at = None if end_at is None else time.monotonic() + linger_s
            elif key.data == "input":
                if octets := os.read(0, limit):
                    flow.send(octets)
                else:
                    selector.unregister(0)
                    end_at = time.monotonic() + linger_s
        watched = flow.connection
        flow.look()
        _watch(selector, watched, flow)
    return 0


def _wait_s(flow: Flow, end_at: float | None) -> float | None:
    waits = [flow.pause_s, None if end_at is None else max(0.0, end_at - time.monotonic())]
    return min((wait for wait in waits if wait is not None), default=None)


def _watch(selector: selectors.BaseSelector, watched: Connection | DirectConnection, flow: Flow) -> None:
    """Register the current connection to lispd, if there is one."""
    is_watched = any(key.data == "lispd" for key in selector.get_map().values())
    if is_watched and (flow.is_orphan or flow.connection is not watched):
        selector.unregister(watched)
        is_watched = False
    if not is_watched and not flow.is_orphan:
        selector.register(flow.connection, selectors.EVENT_READ, "lispd")


def _relay_file(flow: Flow, linger_s: float) -> int:
    while octets := os.read(0, flow.max_datagram or _USUAL_DATAGRAM):
        flow.send(octets)
    with contextlib.suppress(TimedOut):
        while True:
            os.write(1, flow.recv(timeout=linger_s))
    return 0


def _write(flow: Flow) -> None:
    with contextlib.suppress(TimedOut):  # an ICMP error had made the socket readable
        os.write(1, flow.recv(_CHUNK, timeout=0))


def _resolve(arguments: argparse.Namespace) -> int:
    connection = Connection(connect(arguments.socket))
    try:
        result, _ = connection.request("resolve", {"name": arguments.name}, RESOLVE_S)
    except NameNotFound as error:
        print(f"lispflow: {error}", file=sys.stderr)
        return EXIT_NO_FLOW
    finally:
        connection.close()
    if arguments.json:
        print(json.dumps(result))
        return 0
    for step in result["steps"]:
        print(f"{step['source']}: {step['outcome']}")
    print(f"= {result['name']} at {', '.join(result['eids'])}")
    return 0


def _ping(arguments: argparse.Namespace) -> int:
    lost = 0
    for number in range(arguments.count):
        began = time.monotonic()
        try:
            with _allocate(arguments) as flow:
                took_ms = (time.monotonic() - began) * 1000
                shown: dict[str, Any] = {"name": flow.name, "peer": flow.peer, "ms": round(took_ms, 2)}
        except FlowError as error:
            lost += 1
            shown = {"name": arguments.name, "error": str(error)}
        text = f"{shown['peer']} took the call in {shown['ms']} ms" if "ms" in shown else shown["error"]
        print(json.dumps(shown) if arguments.json else text, flush=True)
        if number + 1 < arguments.count:
            time.sleep(PING_WAIT_S)
    return EXIT_NO_FLOW if lost else 0


def _list(arguments: argparse.Namespace) -> int:
    connection = Connection(connect(arguments.socket))
    try:
        result, _ = connection.request("list", {})
    finally:
        connection.close()
    if arguments.json:
        print(json.dumps(result))
        return 0
    for held in result["names"]:
        print(f"{held['name']}  held by {held['owner']}")
    for flow in result["flows"]:
        print(f"flow {flow['flow']}  {flow['name']}  {'to' if flow['direction'] == 'out' else 'from'} {flow['peer']}")
    return 0


def _command(arguments: argparse.Namespace) -> list[str]:
    command: list[str] = arguments.command
    return command[1:] if command[:1] == ["--"] else command


def _say(arguments: argparse.Namespace, what: str, flow: Flow) -> None:
    """Print to standard error, because standard output carries the flow's data."""
    if arguments.json:
        print(json.dumps({what: flow.name, "peer": flow.peer, "max_datagram": flow.max_datagram}), file=sys.stderr)
    else:
        print(f"lispflow: {what} {flow.name} {flow.peer}", file=sys.stderr)


_COMMANDS: Final = {"call": _call, "listen": _listen, "resolve": _resolve, "ping": _ping, "list": _list}


if __name__ == "__main__":
    sys.exit(main())
