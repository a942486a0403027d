"""Every command in the documentation is accepted by its program. tests/lispd runs those that can be run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import lru_cache

import pytest

from lispmob.flow import cli as lispflow
from lispmob.hub.cli import parser as lisphub
from lispmob.lispctl import main as lispctl
from lispmob.lispd import options as lispd
from lispmob.tools import echo_cli, lig
from tests.shown_commands import PROGRAMS, Shown, shown_commands

COMMANDS = shown_commands()
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "lispctl": lispctl.build_parser,
    "lig": lig.build_parser,
    "lisp-echo": echo_cli.build_parser,
    "lispflow": lispflow.build_parser,
    "lispd": lispd.build_parser,
    "lisphub": lisphub.build_parser,
}
NOT_WHOLE = {
    "lispctl config": "names the command, whose actions are listed beside it",
    "lispctl map": "names the command, whose actions are listed beside it",
    "lispctl why": "names the command",
    "lispctl join": "names the command",
    "lispctl ping": "names the command",
    "lisphub revoke": "names the command",
    "lisphub metrics --listen": "names an option of the command",
    "lispctl run": "names the command",
    "lispflow listen --replace": "an option of a command that is shown in whole above",
    "lispflow call --protocol 0": "an option of a command that is shown in whole above",
}
"""Parts of commands in sentences, not whole commands."""


@lru_cache
def parser_of(program: str) -> argparse.ArgumentParser:
    return PARSERS[program]()


def test_the_pages_show_commands_of_every_program() -> None:
    assert {shown.words[0] for shown in COMMANDS} == set(PROGRAMS) == set(PARSERS)
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: " ".join(shown.words))
def test_a_command_that_is_shown_is_taken_by_its_program(shown: Shown) -> None:
    line = " ".join(shown.words)
    if line in NOT_WHOLE:
        assert not shown.is_typed
        return
    try:
        parser_of(shown.words[0]).parse_args(list(shown.words[1:]))
    except SystemExit:
        pytest.fail(f"{shown.page}: {line}")


def test_what_is_no_whole_command_is_still_shown() -> None:
    assert set(NOT_WHOLE) <= {" ".join(shown.words) for shown in COMMANDS}
