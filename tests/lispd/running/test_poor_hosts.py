"""lispd on hosts that refuse some of its requests: it works, says what is missing, and completes it later."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lispd.running.world import A, Node, NodeText, World, wait_for

pytestmark = pytest.mark.netns

NATIVE = "{mode: full, fallback: native}"
RULES = {"steering": "{rules: [{name: all, via: [lte0]}]}"}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH, for programs that behave differently."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def text(world: World) -> NodeText:
    return dataclasses.replace(world.text(A), routing=NATIVE, keys=RULES)


def keys(status: dict[str, Any] | None) -> set[str]:
    return {problem["key"] for problem in (status or {}).get("problems", ())}


def until(node: Node, wanted: set[str], present: bool, within_s: float) -> None:
    """Wait until these problems are there, or are gone."""
    node.wait_until(
        lambda status: wanted <= keys(status) if present else not wanted & keys(status),
        f"{'with' if present else 'without'} {', '.join(wanted)}",
        within_s,
    )


def put(folder: Path, names: tuple[str, ...], script: str, mode: int = 0o755) -> None:
    for name in names:
        (folder / name).write_text(script)
        (folder / name).chmod(mode)


TOOLS = ("iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore", "nft")


@pytest.mark.parametrize(
    "script",
    [
        '#!/bin/sh\necho "iptables v1.8.9: can\'t initialize iptables table: Table does not exist" >&2; exit 3\n',
        "#!/bin/sh\necho 'Another app is currently holding the xtables lock.' >&2; exit 4\n",
    ],
    ids=["table missing", "lock held"],
)
def test_without_chains_lispd_runs_names_them_once_and_puts_them_in_when_it_can(
    world: World, programs: Path, script: str
) -> None:
    world.start_hub()
    put(programs, TOOLS, script)
    node = world.start_node(text(world))

    until(node, {"no-chain", "no-translation"}, present=True, within_s=10)
    for tool in TOOLS:
        (programs / tool).unlink()
    until(node, {"no-chain", "no-translation"}, present=False, within_s=10)

    assert "LISPMOB-NAT" in world["a"].run("iptables-save", "-t", "nat")
    assert "Traceback" not in node.log()
    assert node.log().count("WARNING the steering rules for IPv4 are not in the kernel") == 1


def test_without_ip6tables_the_other_family_has_its_chains_and_nft_does_the_rest(world: World, programs: Path) -> None:
    world.start_hub()
    put(programs, ("ip6tables-save", "ip6tables-restore"), "#!/bin/sh\nexit 3\n")

    node = world.start_node(text(world))
    wait_for(lambda: "lispmob_nat" in world["a"].run("nft", "list", "tables"), "a chain by nft")

    assert "LISPMOB-NAT" in world["a"].run("iptables-save", "-t", "nat")
    assert "no-translation" not in keys(node.status())
    assert node.daemon.stop() == 0
    assert "lispmob" not in world["a"].run("nft", "list", "tables")


def test_a_move_while_ipv6_is_switched_off_is_followed_by_ipv4_and_ipv6_comes_back_with_the_switch(
    world: World,
) -> None:
    world.start_hub()
    node = world.start_node(text(world))
    a = world["a"]
    a.sysctl("ipv6/conf/all/disable_ipv6", "1")
    a.run("ip", "link", "set", "wlan0", "down")
    until(node, {"kernel-refused"}, present=True, within_s=10)

    def rules() -> str:
        return a.run("ip", "rule")

    lost = world.address("a", "wlan0")
    wait_for(lambda: f"from {lost} " not in rules() and f"to {lost} " not in rules(), "an end of the former address")
    assert f"to {world.address('a', 'lte0')} " in rules()

    a.sysctl("ipv6/conf/all/disable_ipv6", "0")
    until(node, {"kernel-refused"}, present=False, within_s=10)
    assert "2001:db8:e1d::1" in a.run("ip", "-6", "addr", "show", "dev", "lmn0")


def test_a_lock_that_is_held_for_a_while_at_the_start_delays_the_chains_and_nothing_else(
    world: World, programs: Path
) -> None:
    """iptables-legacy waits for a file that any process can lock."""
    for tool in ("iptables", "ip6tables"):
        for what in ("save", "restore"):
            put(programs, (f"{tool}-{what}",), f'#!/bin/sh\nexec {tool}-legacy-{what} "$@"\n')
    world.start_hub()
    with subprocess.Popen(["flock", "/run/xtables.lock", "sleep", "30"]) as holder:
        try:
            node = world.start_node(text(world))
            assert node.status() is not None
        finally:
            for child in Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split():
                os.kill(int(child), 15)
            holder.terminate()
    wait_for(lambda: "LISPMOB-NAT" in world["a"].run("iptables-legacy-save", "-t", "nat"), "a chain after the lock")
    assert node.daemon.stop() == 0
