"""Who may import whom, read off the source. Each rule says why it is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lispmob"

PURE = (
    "wire/",
    "control/",
    "natt/",
    "problems/",
    "config/doubts.py",
    "mh/policy.py",
    "protocol/scheduler.py",
    "mh/flow_marks.py",
    "mh/selector.py",
    "mh/app_unit.py",
    "mh/rehearsal.py",
    "mh/chain_text.py",
    "datapath/spread.py",
    "iface_monitor/snapshot.py",
    "iface_monitor/link_type.py",
    "iface_monitor/network_identity.py",
    "iface_monitor/delta.py",
    "iface_monitor/gateway_trials.py",
    "iface_monitor/portal_patience.py",
    "iface_monitor/network_manager_state.py",
    "api/dbus_values.py",
    "mapping/messages.py",
    "recording/",
    "iface_monitor/default_routes.py",
    "mh/plan.py",
    "metrics/family.py",
    "metrics/hub.py",
    "metrics/node.py",
    "joining/exchange.py",
    "joining/invitation.py",
    "hub/inviting/invitations.py",
    "hub/inviting/invited.py",
    "hub/inviting/pool.py",
    "hub/web/guard.py",
    "flow/adoption.py",
    "flow/auth.py",
    "flow/caller.py",
    "flow/cookie.py",
    "flow/effect.py",
    "flow/endpoint.py",
    "flow/holder.py",
    "flow/limits.py",
    "flow/message.py",
    "flow/name.py",
    "flow/quality.py",
    "flow/race.py",
    "flow/steered.py",
    "flow/table.py",
    "mh/rule.py",
    "names/zone.py",
    "mh/rule_order.py",
    "mh/nft_text.py",
    "mh/common_marks.py",
    "mh/nft_marks.py",
    "mh/mark_bits.py",
    "lispd/retry.py",
    "lispd/report/handovers.py",
    "lispd/report/narration.py",
    "lispd/report/complaints.py",
    "lispd/native_routes.py",
    "lispd/tasks/waking.py",
    "lispd/report/control_cost.py",
    "config/profile.py",
    "tools/question.py",
    "tools/echo_message.py",
    "tools/echo_tally.py",
    "tools/echo_text.py",
    "tools/lig_text.py",
    "tools/lig_security.py",
    *(
        f"convert/{name}.py"
        for name in (
            "confuse",
            "conversion",
            "draft",
            "hub",
            "lispers",
            "lispers_node",
            "node",
            "reading",
            "report",
            "showing",
            "tree",
            "uci",
            "writing",
        )
    ),
)
"""Machines that must run in virtual time: their clock, randomness and packets come in through the door."""

IMPURE_MODULES = {
    "time",
    "asyncio",
    "socket",
    "random",
    "secrets",
    "logging",
    "threading",
    "subprocess",
    "os",
    "select",
}

ONE_HOME = {
    "yaml": {"config/yaml_tree.py"},
    "pyroute2": {"iface_monitor/rtnetlink.py", "mh/kernel/iproute.py", "hub/routes.py"},
    "netifaces": {"iface_monitor/polling.py"},
    "dbus_next": {"bus/connection.py"},
    "dbus_fast": {"bus/connection.py"},
    "sqlite3": {"hub/store/store.py", "hub/inviting/site_store.py"},
    "dns": {"flow/resolve.py", "names/dns_message.py"},
    "prometheus_client": {"metrics/exposition.py"},
    "aiohttp": {"hub/web/server.py"},
    "segno": {"hub/cli/commands.py"},
    "matplotlib": {"lab/charts.py", "lab/bench/charts.py"},
}
"""A library that is imported in one file can be replaced in one file."""

MAY_NOT = [
    ("wire/", "control hub datapath api config daemon", "the codec knows octets and field names only"),
    ("crypto/", "wire control hub datapath api config service daemon", "ciphers know octets and keys, and no protocol"),
    (
        "control/",
        "hub datapath api iface_monitor mh.kernel daemon crypto",
        "the core is fed by adapters and never calls one",
    ),
    (
        "problems/",
        "hub api datapath config iface_monitor mh service daemon",
        "evidence comes in as values, from whoever has it",
    ),
    ("hub/", "mh natt iface_monitor", "the hub has no uplinks of its own to watch"),
    (
        "joining/",
        "hub control daemon service datapath mh natt iface_monitor api",
        "both ends use it, and neither is it",
    ),
    ("metrics/", "hub control daemon service datapath mh natt iface_monitor api", "figures are made of answers"),
    ("lab/", "daemon control hub datapath mh iface_monitor", "the lab starts processes, as a user would"),
    ("api/cli/", "control datapath hub daemon config api.server", "the command line is a client, quick to start"),
    (
        "tools/",
        "daemon service hub datapath mh natt iface_monitor flow api.schema api.server",
        "a tool works where no lispd is, and starts in no time",
    ),
    (
        "convert/",
        "daemon service datapath mh natt iface_monitor control flow",
        "a file becomes a file, and nothing runs",
    ),
    ("datapath/", "control mh api hub", "the datapath never asks why an entry is there"),
    ("recording/", "hub api datapath config service mh.kernel daemon", "it feeds the core, as any adapter may"),
    ("mapping/", "control config service api wire", "programs that follow mappings need the standard library only"),
    ("flow/", "natt mh datapath hub iface_monitor", "how packets travel is not the business of flows"),
    ("names/", "daemon service api config natt mh datapath hub", "the server knows a zone and whom to ask"),
    *(
        (f"flow/{name}.py", "config control service api wire", "programs that use flows need the standard library only")
        for name in ("__init__", "aio", "cli", "client", "errors", "packets")
    ),
    ("", "daemon", "the composition root sees everything, so nothing may see it"),
]


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("path", [path for path in sources() if place(path).startswith(PURE)], ids=place)
def test_a_pure_file_imports_no_clock_no_socket_and_no_randomness(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path)} & IMPURE_MODULES == set()


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


def test_no_value_of_the_daemons_is_compiled_while_they_are_imported() -> None:
    """lispmob/values.py says what the standard library's decorator costs at start. The laboratory has the time."""
    guilty = [
        place(path)
        for path in sources()
        if not place(path).startswith("lab/") and place(path) not in {"values.py", "config/values.py"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        if any(alias.name == "dataclass" for alias in node.names)
    ]

    assert not guilty


@pytest.mark.parametrize(("folder", "banned", "why"), MAY_NOT)
def test_no_folder_imports_what_it_must_not_know(folder: str, banned: str, why: str) -> None:
    names = tuple(f"lispmob.{name}" for name in banned.split())
    entry_points = {"__main__.py", "lispd/daemon.py"}
    guilty = [
        f"{place(path)} imports {name}"
        for path in sources()
        if place(path).startswith(folder) and place(path) not in entry_points
        for name in imports(path)
        if name in names or name.startswith(tuple(f"{banned_name}." for banned_name in names))
    ]

    assert not guilty, why


LONG_FOR_A_REASON: dict[str, str] = {}
"""Files of more than LONG_LINES lines, each with the reason why it is better whole."""

LONG_LINES = 500


@pytest.mark.parametrize("path", sources(), ids=place)
def test_a_long_file_has_its_reason(path: Path) -> None:
    """A class that spans two files because one was full is harder to read than a long file."""
    is_long = len(path.read_text().splitlines()) > LONG_LINES

    assert is_long == (place(path) in LONG_FOR_A_REASON)
