"""lig: query the mapping system for an EID (RFC 6835). It needs neither lispd nor root privileges.

Exit codes: 0 every EID has a mapping with locators, 1 an EID has no answer, 2 wrong usage, 3 no EID or no resolver to
ask is known (no lispd, no lispd.conf), 4 answered, but an EID has no locators, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from lispmob.api.client import DEFAULT_SOCKET
from lispmob.errors import LispError
from lispmob.options import HelpfulParser, ShowVersion
from lispmob.tools.asking import Sockets, Unasked, ask_all, plan
from lispmob.tools.own import OwnNode, own_node
from lispmob.tools.question import Asked, Asker, Lookup, Protects
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.name_eid import NAME_OCTETS, may_be_name

EXIT_NO_ANSWER: Final = 1
EXIT_UNKNOWN: Final = 3
EXIT_NO_LOCATORS: Final = 4
EXIT_INTERRUPTED: Final = 130
MAX_INSTANCE_ID: Final = (1 << 24) - 1  # RFC 9300: the field in a data header has 24 bits
DEFAULT_CONFIGURATION: Final = Path("/etc/lispmob/lispd.conf")
SELF: Final = "self"


class NothingToAsk(LispError):
    """No EID to ask for, or no resolver to ask, is known."""


def build_parser() -> argparse.ArgumentParser:
    """The parser; completion files and man pages are generated from it."""
    parser = HelpfulParser(prog="lig", description="Ask the mapping system where an EID is (RFC 6835).")
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument(
        "eid", metavar="EID",
        help="an address, a prefix or a host name; or 'self': the EIDs of this host, from lispd or lispd.conf; "
        "with -n a name in the mapping system",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--map-resolver", action="append", default=[], metavar="ADDRESS",
        help="whom to ask; several are asked at once (default: lispd's)",
    )  # fmt: skip
    parser.add_argument(
        "-i", "--instance-id", type=_instance_id, metavar="N", help="Instance-ID of the EID (default 0)"
    )
    parser.add_argument(
        "-c", "--count", type=_count, default=3, metavar="N", help="how often to ask (default %(default)s)"
    )
    parser.add_argument(
        "-t",
        "--timeout",
        type=_seconds,
        default=2.0,
        metavar="S",
        help="how long to wait each time (default %(default)s)",
    )
    parser.add_argument("-s", "--source", metavar="ADDRESS", help="our address to ask from")
    parser.add_argument(
        "-n",
        "--name",
        action="store_true",
        help="EID is a name in the mapping system (RFC 9735), not a host name of DNS",
    )
    parser.add_argument(
        "--lisp-sec", action="store_true",
        help="accept only what LISP-SEC proves (RFC 9303); the keys come from lispd.conf, or from a file",
    )  # fmt: skip
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument(
        "--key-file", type=Path, metavar="PATH",
        help="LISP-SEC with the key that this host registers with at the Map-Server that is asked",
    )  # fmt: skip
    keys.add_argument(
        "--resolver-key-file", type=Path, metavar="PATH",
        help="LISP-SEC with a key of the Map-Resolver's own, as under map-resolvers in lispd.conf",
    )  # fmt: skip
    parser.add_argument("--key-id", type=_key_id, default=0, metavar="N", help="Key ID of that file (default 0)")
    parser.add_argument("-4", dest="family", action="store_const", const=4, help="a host name: its IPv4 addresses")
    parser.add_argument("-6", dest="family", action="store_const", const=6, help="a host name: its IPv6 addresses")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--socket", default=DEFAULT_SOCKET, metavar="PATH", help="lispd's socket (default: %(default)s)"
    )
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIGURATION, metavar="PATH", help="read when lispd does not run"
    )
    return parser


def _instance_id(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_INSTANCE_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 to {MAX_INSTANCE_ID}")
    return int(text)


def _key_id(text: str) -> int:
    if not text.isdecimal() or int(text) > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 to 255")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 100")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0.01 to 60 seconds")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of `lig`."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        node = _node(arguments)
        eids, resolvers = eids_of(arguments, node), resolvers_of(arguments, node)
        source = read_host(arguments.source, 0)[0] if arguments.source else None
        protections = _protections(arguments, node, resolvers)
        code = ask(arguments, eids, resolvers, source, node, protections)
        sys.stdout.flush()
    except NothingToAsk as error:
        return _complain(str(error), EXIT_UNKNOWN)
    except LispError as error:
        return _complain(str(error), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def _node(arguments: argparse.Namespace) -> OwnNode:
    """What is known about this host. With EID and resolvers as arguments, only lispd's EIDs are needed, if it runs."""
    is_needed = (arguments.eid == SELF and not arguments.name) or not arguments.map_resolver
    if not is_needed and not os.path.exists(arguments.socket):
        return OwnNode()
    return own_node(arguments.socket, arguments.config if is_needed else Path(os.devnull))


def eids_of(arguments: argparse.Namespace, node: OwnNode) -> Sequence[Asked]:
    """The EIDs to ask for. Raises NothingToAsk, and LispError for an invalid EID."""
    if arguments.name:
        return [_name_of(arguments)]
    if arguments.eid == SELF:
        own = [eid for eid in node.eids if arguments.instance_id in (None, eid.instance_id)]
        if not own:
            raise NothingToAsk(f"no EID of this host is known: {node.why_not or 'none has this Instance-ID'}")
        return own
    try:
        prefix = EidPrefix.parse(arguments.eid)
    except ValueError:
        if "/" in arguments.eid or "[" in arguments.eid or ":" in arguments.eid:
            raise LispError(
                f"{arguments.eid!r} is not an EID such as 192.0.2.7, 2001:db8::/48 or [7]192.0.2.7"
            ) from None
        instance_id = arguments.instance_id or 0
        return [EidPrefix.host(address, instance_id) for address in read_host(arguments.eid, arguments.family or 0)]
    if prefix.instance_id > MAX_INSTANCE_ID or arguments.instance_id not in (
        None,
        prefix.instance_id or arguments.instance_id,
    ):
        raise LispError(f"{arguments.eid!r} and -i {arguments.instance_id} do not go together")
    return [EidPrefix(prefix.network, prefix.instance_id or arguments.instance_id or 0)]


def _name_of(arguments: argparse.Namespace) -> DistinguishedName:
    name = arguments.eid.encode("utf-8", "surrogateescape")
    if not may_be_name(name):
        raise LispError(
            f"{arguments.eid!r} is no name of RFC 9735: 1 to {NAME_OCTETS} printable characters of US-ASCII"
        )
    if arguments.instance_id:
        raise LispError("names have no Instance-ID")
    return DistinguishedName(name)


def _protections(
    arguments: argparse.Namespace, node: OwnNode, resolvers: Sequence[IpAddress]
) -> Mapping[IpAddress, Protects]:
    """LISP-SEC for each Map-Resolver, if requested. Raises LispError when a key is missing."""
    if not (arguments.lisp_sec or arguments.key_file or arguments.resolver_key_file):
        return {}
    if arguments.name:
        raise LispError("LISP-SEC vouches for EID-Prefixes, and not for names")
    from lispmob.tools.lig_keys import protections  # imported late: the ciphers and the configuration take 60 ms

    return protections(
        resolvers,
        source=node.eids[0] if node.eids else None,
        key_file=arguments.key_file,
        resolver_key_file=arguments.resolver_key_file,
        key_id=arguments.key_id,
        configuration=arguments.config,
    )


def resolvers_of(arguments: argparse.Namespace, node: OwnNode) -> list[IpAddress]:
    """The resolvers to ask. Raises NothingToAsk."""
    named = [word for text in arguments.map_resolver for word in text.split(",") if word]
    if named:
        return [read_host(word, 0)[0] for word in named]
    if not node.resolvers:
        raise NothingToAsk(f"no Map-Resolver is known; name one with -m: {node.why_not or 'lispd has none'}")
    return list(node.resolvers)


def read_host(text: str, family: int) -> list[IpAddress]:
    """An address, or the addresses of a host name. Raises LispError."""
    if "%" in text:
        raise LispError(f"{text!r}: an address with a zone is not reached through LISP")
    try:
        return [ip_address(text)]
    except ValueError:
        pass
    import socket

    wanted = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[family]
    try:
        found = socket.getaddrinfo(text, None, wanted, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise LispError(f"{text!r} is neither an address nor a name that DNS knows: {error}") from None
    return list(dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in found))


def ask(
    arguments: argparse.Namespace,
    eids: Sequence[Asked],
    resolvers: list[IpAddress],
    source: IpAddress | None,
    node: OwnNode,
    protections: Mapping[IpAddress, Protects],
) -> int:
    """Ask and print; returns the exit code. Raises LispError when no socket can be opened."""
    questions, unasked = plan(eids, resolvers, source=source, avoided=node.eid_addresses, instead=node.locators)
    over: list[Lookup] = []
    shown: list[dict[str, Any]] = []
    if questions:
        with _sockets([address for question in questions for address in question.itr_rlocs], source) as sockets:
            lookups = [
                Lookup(
                    question.asked,
                    question.resolver,
                    Asker(question.itr_rlocs, sockets.port),
                    new_nonce,
                    tries=arguments.count,
                    timeout_s=arguments.timeout,
                    protection=protections.get(question.resolver),
                )
                for question in questions
            ]
            for lookup in ask_all(lookups, sockets):
                over.append(lookup)
                shown += _show(lookup, arguments, node)
    shown += [one for question in unasked for one in _show_unasked(question, arguments)]
    if arguments.json:
        import json

        from lispmob.tools.lig_text import JSON_VERSION

        print(json.dumps({"v": JSON_VERSION, "lookups": shown}, indent=2))
    return exit_code(over, unasked)


def _sockets(addresses: list[IpAddress], source: IpAddress | None) -> Sockets:
    try:
        return Sockets(addresses)
    except OSError as error:
        if source is not None:
            raise LispError(f"--source {source} is no address of this host: {error.strerror}") from None
        raise LispError(f"no socket to ask from: {error.strerror}") from None


def new_nonce() -> int:
    """64 unpredictable bits. Only the nonce ties an answer to its question."""
    return int.from_bytes(os.urandom(8))


def exit_code(over: list[Lookup], unasked: list[Unasked]) -> int:
    """The exit code: that of the EID with the worst result, where an EID has the best result of all its resolvers."""
    from lispmob.tools.lig_text import has_locators

    from_good_to_bad = (0, EXIT_NO_LOCATORS, EXIT_NO_ANSWER)
    places = {question.asked: 2 for question in unasked}
    for lookup in over:
        place = 2 if lookup.answer is None else 0 if has_locators(lookup.answer) else 1
        places[lookup.asked] = min(places.get(lookup.asked, 2), place)
    return from_good_to_bad[max(places.values(), default=2)]


def _show(lookup: Lookup, arguments: argparse.Namespace, node: OwnNode) -> list[dict[str, Any]]:
    """Print a finished lookup immediately, or return its JSON to print later."""
    from lispmob.tools.lig_text import answer_lines, as_json, silence_lines

    own = frozenset(node.locators)
    if arguments.json:
        return [as_json(lookup, own)]
    if lookup.answer is not None:
        lines = answer_lines(lookup, lookup.answer, own)
    else:
        lines = silence_lines(lookup.asked, lookup.resolver, lookup.reasons)
    print("\n".join(lines), flush=True)
    return []


def _show_unasked(unasked: Unasked, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from lispmob.tools.lig_text import silence_lines, unasked_as_json

    if arguments.json:
        return [unasked_as_json(unasked)]
    print("\n".join(silence_lines(unasked.asked, unasked.resolver, [unasked.reason])))
    return []


def _complain(text: str, code: int) -> int:
    print(f"lig: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
