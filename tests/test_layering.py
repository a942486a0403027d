"""Who may import whom, and which files must stay pure, by the imports in the source. Each rule says why it exists."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs import architecture
from docs.architecture import LAYERS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lispmob"

PURE_FOLDERS = (
    "wire",
    "protocol",
    "control",
    "control/probing",
    "control/path_mtu",
    "control/lookups",
    "control/sealing",
    "natt",
    "node",
    "problems",
    "recording",
    "mh",
    "hub/map_server",
    "hub/publishing",
    "hub/rtr",
)
"""Every file here is a machine in virtual time, or a value. Clock, randomness and packets are inputs."""

PURE_FILES = (
    *(f"convert/{name}.py" for name in ("conversion", "draft", "hub", "lispers", "node", "reading", "tree", "writing")),
    *(
        f"flow/{name}.py"
        for name in ("adoption", "caller", "endpoint", "holder", "message", "race", "steered", "table")
    ),
    "api/dbus_values.py",
    "config/doubts.py",
    "iface_monitor/default_routes.py",
    "iface_monitor/delta.py",
    "iface_monitor/gateway_trials.py",
    "iface_monitor/link_type.py",
    "iface_monitor/network_manager_state.py",
    "iface_monitor/portal_patience.py",
    "iface_monitor/snapshot.py",
    "config/profile.py",
    "hub/inviting/invitations.py",
    "hub/inviting/invited.py",
    "hub/inviting/pool.py",
    "hub/web/guard.py",
    "iface_monitor/network_identity.py",
    "joining/exchange.py",
    "joining/invitation.py",
    "lispd/handover.py",
    "lispd/native_routes.py",
    "lispd/report/control_cost.py",
    "lispd/report/complaints.py",
    "lispd/report/handovers.py",
    "lispd/report/narration.py",
    "lispd/retry.py",
    "lispd/tasks/waking.py",
    "mapping/messages.py",
    "metrics/family.py",
    "metrics/hub.py",
    "metrics/node.py",
    "names/zone.py",
    "tools/lig_security.py",
    "tools/echo_message.py",
    "tools/echo_tally.py",
    "tools/question.py",
)
"""Pure files in folders that also hold adapters. A file whose first line ends with "pure" need not be listed."""

IMPURE_MODULES = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "select",
    "socket",
    "subprocess",
    "threading",
    "time",
}

ONE_HOME = {
    "yaml": {"config/yaml_tree.py"},
    "pyroute2": {"netlink/decoders.py", "netlink/iproute.py"},
    "netifaces": {"iface_monitor/polling.py"},
    "dbus_next": {"bus/connection.py"},
    "dbus_fast": {"bus/connection.py"},
    "sqlite3": {"hub/store/store.py", "hub/inviting/site_store.py"},
    "cryptography": {"crypto/rsa_signatures.py"},
    "redis": {"hub/valkey/connection.py"},
    "dns": {"flow/resolve.py", "names/dns_message.py"},
    "prometheus_client": {"metrics/exposition.py"},
    "aiohttp": {"hub/web/server.py"},
    "segno": {"hub/cli/commands.py"},
    "matplotlib": {"lab/charts.py", "lab/bench/charts.py"},
}
"""A library that is imported in one file can be replaced in one file."""

MAY_NOT = [
    ("hub/", "node natt mh iface_monitor lispd", "the hub has no uplinks of its own to watch"),
    ("lab/", "control node hub datapath mh iface_monitor lispd", "the lab starts processes, as a user would"),
    ("lispctl/", "control datapath hub lispd config api.server", "the command line is a client, quick to start"),
    ("tools/", "hub datapath control natt flow api.schema api.server", "a tool works where no lispd is"),
    ("convert/", "lispd datapath mh natt iface_monitor control flow", "a file becomes a file, and nothing runs"),
    ("datapath/", "control mh api hub protocol", "the datapath never asks why an entry is there"),
    ("joining/", "hub control lispd datapath mh natt iface_monitor api", "both ends use it, and neither is it"),
    ("metrics/", "hub control lispd datapath mh natt iface_monitor api", "figures are made of answers"),
    ("names/", "lispd api config natt mh datapath hub", "the server knows a zone and whom to ask"),
    ("mapping/", "control config lispd api wire", "programs that follow mappings need the standard library only"),
    ("flow/", "natt mh datapath hub iface_monitor config", "how packets travel is not the business of flows"),
    *(
        (f"flow/{name}.py", "control config lispd api wire", "programs that use flows need the standard library only")
        for name in ("__init__", "aio", "cli", "client", "errors", "opening", "packets")
    ),
]
"""Imports that the order of the layers would allow, and that a reader would not expect."""

FILES_LIMIT = 30

ENTRIES_AT_A_GLANCE = 15


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def speaks_netlink(path: Path) -> bool:
    """True if the file opens a netlink socket, or takes a netlink message header apart."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr == "AF_NETLINK")
        or (isinstance(node, ast.Constant) and node.value == "=IHHII")
        for node in ast.walk(tree_of(path))
    )


def calls_itself_pure(path: Path) -> bool:
    first = (ast.get_docstring(tree_of(path)) or "").partition("\n")[0]
    return first.rstrip(".").lower().endswith(("pure", "frozen values"))


def must_be_pure(path: Path) -> bool:
    folder = path.parent.relative_to(PACKAGE).as_posix()
    return folder in PURE_FOLDERS or place(path) in PURE_FILES or calls_itself_pure(path)


@pytest.mark.parametrize("path", [path for path in sources() if must_be_pure(path)], ids=place)
def test_a_pure_file_imports_no_clock_no_socket_and_no_randomness(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path)} & IMPURE_MODULES == set()


def test_every_place_that_has_to_be_pure_is_there() -> None:
    missing = [folder for folder in (*PURE_FOLDERS, *PURE_FILES) if not (PACKAGE / folder).exists()]

    assert not missing


@pytest.mark.parametrize(("library", "homes"), ONE_HOME.items())
def test_a_library_with_one_home_is_imported_nowhere_else(library: str, homes: set[str]) -> None:
    found = {place(path) for path in sources() if any(name.partition(".")[0] == library for name in imports(path))}

    assert found <= homes


@pytest.mark.parametrize("library", ["dbus_next", "dbus_fast"])
def test_a_library_that_is_imported_by_its_name_in_a_text_is_named_in_its_home_and_where_its_log_is_tamed(
    library: str,
) -> None:
    found = {place(path) for path in sources() if f'"{library}"' in path.read_text()}

    assert found == ONE_HOME[library] | {"logs.py"}


def test_netlink_is_spoken_in_one_room() -> None:
    speakers = {place(path) for path in sources() if speaks_netlink(path)}

    assert speakers == {"netlink/connection.py", "netlink/message.py"}


def test_the_room_says_of_each_user_why_pyroute2_does_not_serve() -> None:
    users = {
        place(path)
        for path in sources()
        if not place(path).startswith("netlink/") and "lispmob.netlink.connection" in set(imports(path))
    }
    named = set(re.findall(r"`(\w[\w/]*/\w+\.py)`", (PACKAGE / "netlink" / "__init__.py").read_text()))

    assert users == named


@pytest.mark.parametrize(("folder", "banned", "why"), MAY_NOT)
def test_no_folder_imports_what_it_must_not_know(folder: str, banned: str, why: str) -> None:
    names = tuple(f"lispmob.{name}" for name in banned.split())
    guilty = [
        f"{place(path)} imports {name}"
        for path in sources()
        if place(path).startswith(folder)
        for name in imports(path)
        if name in names or name.startswith(tuple(f"{banned_name}." for banned_name in names))
    ]

    assert not guilty, why


def test_packages_import_only_what_lies_below_them() -> None:
    order = [name for layer in LAYERS for name in layer.split()]
    level = {name: number for number, name in enumerate(order)}
    drawn = architecture.arrows()
    upwards = {(one, other) for one, others in drawn.items() for other in others if level[one] <= level[other]}

    assert set(drawn) <= set(level), "a package has no layer yet"
    assert upwards == set()


def test_no_file_imports_in_a_circle() -> None:
    left = {module: set(needed) for module, needed in architecture.imports_of_modules().items()}
    while free := [module for module, needed in left.items() if not needed & set(left)]:
        for module in free:
            del left[module]

    assert sorted(left) == []


def shown(folder: Path) -> list[Path]:
    """The files of a folder, without those that are built there."""
    built = {".pyc", ".so", ".o"}
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix not in built]
    return [path for path in files if path.name not in {"_lispdp.c", "_lispcrypto.c"}]


def folders_below(top: str) -> Iterator[Path]:
    for directory, inner, _ in os.walk(ROOT / top):
        inner[:] = [name for name in inner if not name.startswith((".", "__"))]
        yield Path(directory)


@pytest.mark.parametrize("top", ["lispmob", "tests", "packaging", "conf", "docs", "changes", "examples", "stubs"])
def test_no_folder_has_more_files_than_one_sees_at_a_glance(top: str) -> None:
    crowded = {
        folder.relative_to(ROOT).as_posix(): len(shown(folder))
        for folder in folders_below(top)
        if len(shown(folder)) > FILES_LIMIT
    }

    assert crowded == {}


def test_the_datapath_shows_what_a_newcomer_reads_in_one_look() -> None:
    entries = [*shown(PACKAGE / "datapath"), *(path for path in (PACKAGE / "datapath").iterdir() if path.is_dir())]
    named = sorted(path.name for path in entries if not path.name.startswith("__py"))

    assert len(named) <= ENTRIES_AT_A_GLANCE, named


LONG_FOR_A_REASON = {
    "config/node.py": "lispd.conf as a whole: its sections, and what holds between them",
    "lispd/daemon.py": "the composition root: every part is named once, in the order of start and stop",
    "node/node.py": "one method for each thing that can happen to a node; a second file would hide half of them",
    "natt/machine.py": "one method for each thing that can happen to an uplink, and all changes of its state",
    "hub/daemon.py": "the composition root of the hub, as lispd/daemon.py is the node's",
    "hub/map_server/map_server.py": "the life of a registration from its Map-Register to its end",
    "control/mappings.py": "the life of a mapping from its Map-Reply to its end, and of its forwarding entry",
}
"""Files of more than LONG_LINES lines, each with the reason why it is better in one piece."""

LONG_LINES = 500


@pytest.mark.parametrize("path", sources(), ids=place)
def test_a_long_file_has_its_reason(path: Path) -> None:
    """A class that spans two files because one was full is harder to read than a long file."""
    is_long = len(path.read_text().splitlines()) > LONG_LINES

    assert is_long == (place(path) in LONG_FOR_A_REASON)
