"""lispers.net as a peer: where its programs are, their configuration, and what one of its hosts needs around them.

It needs "public" addresses outside of RFC 1918, reads packets with libpcap, which may deliver them 0.1 s late, and
registers every minute: timeouts are long.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from lispmob.lab.namespace import Namespace

INSTALLED: Final = Path(os.environ.get("LISPERS_NET", "/nonexistent"))
PYTHON: Final = os.environ.get("LISPERS_NET_PYTHON", "python3")
SUFFIX: Final = next((suffix for suffix in (".py", ".pyc", ".pyo") if (INSTALLED / f"lisp-core{suffix}").exists()), "")
NEEDS_IT: Final = [
    pytest.mark.netns,
    pytest.mark.skipif(not SUFFIX, reason="lispers.net is not installed: put its directory in LISPERS_NET"),
]
KEY: Final = "interop-key"
OVERLAY: Final = "10.1.0.0/16"
BEARABLE_MBIT_S: Final = 0.3  # its interpreter and libpcap reach a few; a broken path carries nothing
READY_S: Final = 3.0  # it applies its configuration once a second

_RULE: Final = "#" + 77 * "-"
_PARTS: Final = ("itr", "etr", "rtr", "map-resolver", "map-server", "ddt-node")
_PLAIN: Final = """    nat-traversal = no
    nonce-echoing = no
    data-plane-security = no
    data-plane-logging = no
    flow-logging = no
"""
_ASKS: Final = f"""
lisp map-cache {{
    prefix {{
        instance-id = 0
        eid-prefix = {OVERLAY}
        send-map-request = yes
    }}
}}
"""


def configuration(commands: str, *enabled: str) -> str:
    """A lisp.config with these parts switched on."""
    switches = "".join(f"    {part} = {'yes' if part in enabled else 'no'}\n" for part in _PARTS)
    account = "lisp user-account {\n    username = root\n    password = lab\n    super-user = yes\n}\n"
    head = "# lispers.net lisp.config file, last changed: never\n"
    return f"{head}{_RULE}\nlisp enable {{\n{switches}}}\n{account}{commands}{_RULE}#\n"


def map_server(rtr: IPv4Address | None = None) -> str:
    """Map-Server and Map-Resolver of the overlay; `rtr`: the RTR that it names to nodes behind NATs."""
    rtrs = "" if rtr is None else f"lisp rtr-list {{\n    address = {rtr}\n}}\n"
    proxy = "" if rtr is None else "        force-proxy-reply = yes\n        force-nat-proxy-reply = yes\n"
    site = f"""
lisp site {{
    site-name = both
    authentication-key = {KEY}
    allowed-prefix {{
        instance-id = 0
        eid-prefix = {OVERLAY}
        accept-more-specifics = yes
{proxy}    }}
}}
"""
    return configuration(rtrs + site, "map-server", "map-resolver")


def re_encapsulator(server: IPv4Address) -> str:
    """An RTR that probes the locators that it sends to."""
    parameters = f"lisp xtr-parameters {{\n    rloc-probing = yes\n{_PLAIN}}}\n"
    return configuration(f"{parameters}lisp map-resolver {{\n    address = {server}\n}}\n{_ASKS}", "rtr")


def xtr(server: IPv4Address, eid: str, *, is_probing: bool = False, encrypts: bool = False) -> str:
    """ITR and ETR of one host on eth0."""
    probing = "yes" if is_probing else "no"
    plain = _PLAIN.replace("data-plane-security = no", "data-plane-security = yes") if encrypts else _PLAIN
    return configuration(
        f"""
lisp xtr-parameters {{
    rloc-probing = {probing}
{plain}}}
lisp map-resolver {{
    address = {server}
}}
lisp map-server {{
    address = {server}
    authentication-type = sha2
    authentication-key = {KEY}
}}
{_ASKS}
lisp database-mapping {{
    prefix {{
        instance-id = 0
        eid-prefix = {eid}/32
    }}
    rloc {{
        interface = eth0
        priority = 1
        weight = 100
    }}
}}
lisp interface {{
    interface-name = eth0
    device = eth0
}}
""",
        "itr",
        "etr",
    )


def prepare_xtr(host: Namespace, eid: str, gateway: IPv4Address) -> None:
    """Do what its documents demand: the EID on the loopback, a route for it, and no offload to the interface."""
    lines = (
        "ip link set lo up",
        f"ip addr add {eid}/32 dev lo",
        f"ip route add {OVERLAY} via {gateway} src {eid} mtu 1400",
        "ethtool -K eth0 tx off tso off gso off gro off",
    )
    host.run("sh", "-ec", "\n".join(lines))


def install(home: Path, text: str) -> None:
    """Install a copy for each host: it writes into the directory that it runs in."""
    shutil.copytree(INSTALLED, home, ignore=shutil.ignore_patterns("logs", "lisp.config*"))
    (home / "logs").mkdir()
    (home / "lisp.config").write_text(text)


def command(home: Path, program: str, *words: str) -> list[str]:
    """One of its programs, in its own copy."""
    environment = ("LISP_ADDR_SELECT=eth0", "LISP_NO_IPTABLES=1", "LISP_PCAP_THREADS=1", "LISP_WORKER_THREADS=0")
    return ["env", "-C", str(home), *environment, PYTHON, "-O", program + SUFFIX, *words]


def start(run: Callable[[str, list[str]], object], home: Path, *programs: str) -> None:
    """Start lisp-core, and then these programs one after another; `run` takes the name of a program and its command."""
    for program in ("lisp-core", *programs):
        run(program, command(home, program, *(("-8080",) if program == "lisp-core" else ())))
        time.sleep(1)
    time.sleep(READY_S)
