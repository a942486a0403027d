"""lisphub setup: makes a running hub, by questions on a terminal or by flags."""

from __future__ import annotations

import argparse
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

from lispmob.config.names import why_odd
from lispmob.errors import ConfigError, LispError, NotRunning
from lispmob.hub.asking import ask
from lispmob.hub.cli.firewall import firewall_lines
from lispmob.hub.config import SITES_DIRECTORY, load_hub
from lispmob.hub.map_server.host_address import is_loopback, is_private
from lispmob.joining import units
from lispmob.joining.files import FileRefused, MayNotWrite, PrivateFile, private_directory
from lispmob.terminal.text import fold, paint
from lispmob.wire.address import IpAddress, IpNetwork

UNIT: Final = "lisphub.service"
DOMAIN: Final = "lisp.home.arpa"  # RFC 8375: for names in private networks
STARTED_S: Final = 15.0
_ANY_HOST: Final = {4: "192.0.2.1", 6: "2001:db8::1"}  # nothing is sent there: the kernel only chooses a source
Asker = Callable[[str, str], str]


class NotSetUp(LispError):
    """The given settings make no hub; the text says why."""


def run(arguments: argparse.Namespace, asker: Asker | None = None) -> int:
    """Ask for missing settings, write hub.conf, start the hub. Raises LispError."""
    path = Path(arguments.config)
    if path.exists() and not arguments.force:
        raise NotSetUp(f"{path} is there already; --force replaces it, and keeps it under another name")
    if asker is None and sys.stdin.isatty() and not arguments.yes:
        asker = _ask_terminal
    own = own_addresses()
    addresses = _addresses(arguments.address, own, asker)
    pools = _pools(arguments.pool, asker)
    domain = arguments.domain
    if domain is None and asker is not None:
        domain = asker("Domain of the names, or none", DOMAIN)
    domain = DOMAIN if domain is None else domain
    text = hub_text(addresses, pools, domain, own, is_rtr=not arguments.no_rtr, day=time.strftime("%Y-%m-%d"))
    try:
        with PrivateFile(path) as file:
            kept = file.put(text, lambda written: _check(written, path), ".before-setup")
    except MayNotWrite as error:
        raise PermissionError(str(error)) from None
    private_directory(path.parent / SITES_DIRECTORY)
    print(f"written: {path}" + (f"; the file that was there is {kept} now" if kept is not None else ""))
    if why := why_odd(domain.lower()):
        said = fold(f"The domain {domain} is hardly meant: {why}; one below home.arpa is fit.")
        print("\n".join(paint(line, "warn") for line in said))
    print("\n".join(firewall_lines(is_rtr=not arguments.no_rtr)))
    code = _start(arguments, path)
    if code == 0:
        print("next: lisphub invite NAME, for each machine")
    return code


def _check(written: Path, path: Path) -> None:
    """Raises ConfigError for invalid settings."""
    try:
        load_hub(written)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(written), str(path))) from None


def own_addresses() -> tuple[IpAddress, ...]:
    """The source address of this machine for each family with a route."""
    found: list[IpAddress] = []
    for version, destination in _ANY_HOST.items():
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as one:
            try:
                one.connect((destination, 9))
            except OSError:
                continue
            address = ip_address(one.getsockname()[0])
            if not is_loopback(address) and not address.is_link_local:
                found.append(address)
    return tuple(found)


def _addresses(given: Sequence[str] | None, own: Sequence[IpAddress], asker: Asker | None) -> tuple[IpAddress, ...]:
    public = [address for address in own if not is_private(address)]
    texts = _words(given)
    if not texts and asker is not None:
        texts = _words([asker("Public address of this machine", " ".join(map(str, public)))])
    if not texts:
        texts = list(map(str, public))
    if not texts:
        raise NotSetUp(
            f"this machine has no public address ({', '.join(map(str, own)) or 'none at all'}): say by which one nodes "
            "reach it, with --address ADDRESS"
        )
    try:
        found = tuple(dict.fromkeys(ip_address(text) for text in texts))
    except ValueError as error:
        raise NotSetUp(f"{error}: write an IPv4 or IPv6 address, no name") from None
    for address in found:
        if is_loopback(address) or address.is_unspecified or address.is_multicast or address.is_link_local:
            raise NotSetUp(f"{address}: other machines cannot reach this one by it")
        if sum(other.version == address.version for other in found) > 1 and address not in own:
            raise NotSetUp(
                f"{address}: of an address that this machine does not have itself, one of a family is enough"
            )
    return found


def _pools(given: Sequence[str] | None, asker: Asker | None) -> tuple[IpNetwork, ...]:
    texts = _words(given)
    if not texts:
        drawn = " ".join(map(str, drawn_pools(secrets.randbelow)))
        texts = _words([asker("Networks that EIDs come from", drawn) if asker is not None else drawn])
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise NotSetUp(f"{error}: write a network such as 10.99.0.0/24 or fd12:3456:789a::/64") from None


def _words(given: Sequence[str] | None) -> list[str]:
    """Several values in one are divided by commas or blanks."""
    return [word for text in given or () for word in text.replace(",", " ").split()]


def drawn_pools(draw: Callable[[int], int]) -> tuple[IPv4Network, IPv6Network]:
    """A random /24 of 10.0.0.0/8 and a /64 of a unique local prefix (RFC 4193, 3.2.1): conflicts are unlikely."""
    local = (0xFD << 40 | draw(1 << 40)) << 80
    return IPv4Network((10 << 24 | (64 + draw(128)) << 16 | draw(256) << 8, 24)), IPv6Network((IPv6Address(local), 64))


def hub_text(
    addresses: Iterable[IpAddress],
    pools: Iterable[IpNetwork],
    domain: str,
    own: Iterable[IpAddress],
    *,
    is_rtr: bool,
    day: str,
) -> str:
    """The text of hub.conf. `own`: addresses of the machine; any other one belongs to a NAT in front of it."""
    listed = list(addresses)
    outside = [address for address in listed if address not in set(own) and not is_private(address)]
    text = (
        f"# hub.conf, written by `lisphub setup` on {day}. Who is invited is in no file: lisphub sites\n"
        "# What is not here has its default; man hub.conf explains every key. After a change: lisphub --reload\n"
        "invitations:\n"
        f"  addresses: [{_list(listed)}]\n"
        f"  pools: [{_list(pools)}]\n"
        f'  domain: "{domain}"\n'
    )
    text += f"public-address: [{_list(outside)}]\n" if outside else ""
    return text + ("rtr: {enabled: yes}\n" if is_rtr else "")


def _list(values: Iterable[object]) -> str:
    return ", ".join(f'"{value}"' for value in values)


def _start(arguments: argparse.Namespace, path: Path) -> int:
    if arguments.no_service or not units.runs_systemd():
        print(f"start it with: lisphub -c {path}")
        return 0
    units.start(UNIT)
    until = time.monotonic() + STARTED_S
    while True:
        try:
            ask(load_hub(path).control_socket, "status")
        except NotRunning:
            if time.monotonic() >= until:
                raise NotSetUp(f"{UNIT} was started, and does not run; why: sudo journalctl -u lisphub -n 20") from None
            time.sleep(0.2)
            continue
        print("lisphub runs, now and with each start of the machine")
        return 0


def _ask_terminal(question: str, default: str) -> str:
    try:
        said = input(f"{question} [{default}]: " if default else f"{question}: ").strip()
    except EOFError:
        raise FileRefused("nothing was written") from None
    return said or default
