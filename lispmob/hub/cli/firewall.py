"""The ports that a firewall must admit for a hub, and what this machine's firewall does with them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, Final

from lispmob.terminal.text import fold, paint

PATIENCE_S: Final = 5.0


def firewall_lines(*, is_rtr: bool) -> list[str]:
    """Sentences for the operator."""
    ports = "4341 and 4342" if is_rtr else "4342"
    lines = fold(f"Let in, here and at your provider (security group): UDP {ports}, from everywhere.")
    remedy = remedy_of(_said("ufw", "status"), _said("firewall-cmd", "--state"), _said("nft", "-j", "list", "ruleset"))
    if remedy is not None:
        lines += [paint("This machine's own firewall refuses by default, as far as can be seen; run:", "warn")]
        lines += [f"  {command}" for command in remedy(["4341", "4342"] if is_rtr else ["4342"])]
    lines += fold("What your provider lets in cannot be seen from here: the first `lispctl join` tells.")
    return lines


def remedy_of(ufw: str, firewalld: str, ruleset: str) -> Any:
    """A function that makes the commands for some ports; None if no refusal is seen.

    The arguments are the outputs of the three programs; "" for a missing one.
    """
    if re.search(r"^Status: active", ufw, re.MULTILINE):
        return lambda ports: [f"ufw allow {port}/udp" for port in ports]
    if firewalld.strip() == "running":
        return lambda ports: [
            *(f"firewall-cmd --permanent --add-port={port}/udp" for port in ports),
            "firewall-cmd --reload",
        ]
    chain = dropping_chain(ruleset)
    if chain is None:
        return None
    family, table, name = chain
    return lambda ports: [f"nft insert rule {family} {table} {name} udp dport '{{ {', '.join(ports)} }}' accept"]


def dropping_chain(ruleset: str) -> tuple[str, str, str] | None:
    """The first nftables chain that drops packets by default: family, table and name."""
    try:
        entries = json.loads(ruleset)["nftables"]
        chains = [entry["chain"] for entry in entries if "chain" in entry]
    except (ValueError, KeyError, TypeError):
        return None
    for chain in chains:
        if chain.get("hook") == "input" and chain.get("policy") == "drop":
            return str(chain.get("family")), str(chain.get("table")), str(chain.get("name"))
    return None


def _said(*command: str) -> str:
    """A program's output; "" if it is missing, or not permitted."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
