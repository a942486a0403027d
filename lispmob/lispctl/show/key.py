"""lispctl key: our static key and those of others, what is sealed with them, and the approval of a new key."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, duration, fold, paint, plural

_COLOURS = {"sealed": "good", "sealed to the hub, clear beyond": "good", "waiting": "warn"}


def run(client: Client, arguments: Namespace) -> int:
    """Print the keys, or accept one."""
    if arguments.replace:
        return show(client.call("replace-key"), arguments, replaced_lines)
    if arguments.rekey:
        return show(client.call("rekey"), arguments, lambda told: [f"{plural(told['count'], 'peer')}: new keys now"])
    if arguments.forget is not None:
        return show(
            client.call("forget-key", prefix=arguments.forget),
            arguments,
            lambda _: [f"the key of {arguments.forget} is forgotten: packets for it may leave in clear"],
        )
    if arguments.accept is None:
        return show(client.call("keys"), arguments, key_lines)
    prefix: str = arguments.accept
    return show(
        client.call("accept-key", prefix=prefix),
        arguments,
        lambda _: [f"the new key of {prefix} is used from now on"],
    )


def replaced_lines(keys: dict[str, Any]) -> list[str]:
    """What a replaced key of our own means for others."""
    text = (
        f"this node has the key {clean(keys['fingerprint'])} now, and the old one is gone; the Map-Servers and the "
        "peers are told. Connections go on. Who has pinned the old key (peers in lispd.conf) writes down the new one: "
        f"public-key: {clean(keys['public_key'])}"
    )
    return fold(text)


def key_lines(keys: dict[str, Any]) -> list[str]:
    """The keys for people."""
    if keys["public_key"] is None:
        return fold(f"nothing is sealed here: {clean(keys['why_not'])}")
    lines = [
        f"{paint('Own key', 'bold')} {clean(keys['fingerprint'])}",
        f"  public-key: {clean(keys['public_key'])}",
        *(f"  {clean(cipher)} by {clean(library)}" for cipher, library in sorted(keys["libraries"].items())),
        "",
        paint("Peers", "bold"),
    ]
    lines += [line for peer in keys["peers"] for line in _peer(peer)] or ["  none with a known key"]
    if keys["waiting"]:
        lines += ["", paint("New keys that wait for a yes", "bold")]
        for key in keys["waiting"]:
            prefix = clean(key["prefix"])
            text = f"{prefix} {clean(key['fingerprint'])}; when it is right: lispctl key --accept {prefix}"
            lines += fold(text, first="  ")
    return lines


def _peer(peer: dict[str, Any]) -> list[str]:
    seal = peer["seal"]
    head = f"  {clean(peer['prefix'])} {clean(seal['state'])}"
    return [paint(head, _COLOURS[seal["state"]]) if seal["state"] in _COLOURS else head, *seal_lines(seal)]


def seal_lines(seal: dict[str, Any]) -> list[str]:
    """The known facts of a peer's key, below its name."""
    known = [clean(seal["why"])]
    if seal["fingerprint"] is not None:
        known.append(f"{clean(seal['grade'])} key {clean(seal['fingerprint'])}")
    if seal["age_s"] is not None:
        counted = f"{plural(seal['packets_out'], 'packet')} out, {seal['packets_in']} in"
        known.append(f"session of {duration(seal['age_s'])}, {counted}")
    return fold("; ".join(known), first="    ")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--replace", action="store_true", help="make a new static key for this node, and inform all peers"
    )
    parser.add_argument(
        "--forget",
        metavar="PREFIX",
        help="forget the key of this EID-Prefix, or hub: what it is sent may be clear",
    )
    parser.add_argument("--rekey", action="store_true", help="make new keys for all sessions now")
    parser.add_argument(
        "--accept", metavar="PREFIX", help="accept the new key of this EID-Prefix, which waits for your decision"
    )


COMMAND = Command(
    "key", "show our static key and those of peers, with fingerprints to compare, and what is sealed", run, _arguments
)
