from __future__ import annotations

import argparse
import re
import typing
from pathlib import Path

import pytest

from docs import architecture, library, limits
from docs.machines import page
from lispmob import flow
from lispmob.api.dbus import INTROSPECTION
from lispmob.lispctl.upkeep import config
from lispmob.options import HelpfulParser
from lispmob.problems.problem import EXIT_CODES, KEYS
from lispmob.tools import echo_cli, lig
from lispmob.tools.question import ReasonKind

ROOT = Path(__file__).resolve().parent.parent


def test_the_pictures_of_the_machines_are_those_of_the_code() -> None:
    assert (ROOT / "docs" / "machines.md").read_text() == page(), "stale: run `make docs`"


def test_the_page_of_timers_and_limits_has_the_numbers_of_the_code() -> None:
    assert (ROOT / "docs" / "limits.md").read_text() == limits.page(), "stale: run `make docs`"


def test_the_picture_of_the_packages_is_that_of_the_imports() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()

    assert text == architecture.page(), "stale: run `make docs`"


def test_the_first_page_names_every_package() -> None:
    there = {path.parent.name for path in (ROOT / "lispmob").glob("*/__init__.py")}
    named = set(re.findall(r"`lispmob/(\w+)/`", (ROOT / "README.md").read_text().partition("## The tree")[2]))

    assert named == there


@pytest.mark.parametrize(("question", "sought", "file"), architecture.SEARCHES)
def test_a_search_of_the_architecture_page_leads_to_its_file(question: str, sought: str, file: str) -> None:
    folders = ("lispmob/**/*.py", "lispmob/**/*.[ch]")
    found = [path for pattern in folders for path in ROOT.glob(pattern) if sought in path.read_text()]

    assert ROOT / file in found, question
    assert len(found) <= 5, "too many places to look at"


FIRST_WORDS = (
    ("who writes the LISP header", "lispmob/datapath/c/packet/lisp_header.h", "writes the LISP header"),
    ("who writes the LISP header", "lispmob/datapath/c/engine/send.c", "LISP header"),
    ("which uplink a flow takes", "lispmob/datapath/c/table/uplink.h", "which of them a flow takes"),
    ("which uplink a flow takes", "lispmob/mh/policy.py", "which uplink a flow takes"),
    ("what happens when an address goes", "lispmob/lispd/handover.py", "What happens when an address"),
    ("who accepts a Map-Reply", "lispmob/protocol/acceptance.py", "Whether to accept a Map-Reply"),
    ("what the kernel must hold", "lispmob/mh/plan.py", "What the kernel must hold"),
)


@pytest.mark.parametrize(("question", "file", "words"), FIRST_WORDS)
def test_the_first_sentence_of_a_file_answers_what_a_newcomer_asks(question: str, file: str, words: str) -> None:
    sentence = re.split(r"[.;]\s", (ROOT / file).read_text(), maxsplit=1)[0]

    assert words in re.sub(r"[\s*]+", " ", sentence), question


def test_the_page_about_the_library_is_that_of_its_docstrings() -> None:
    text = (ROOT / "docs" / "library.md").read_text()

    assert text == library.page(), "stale: run `make docs`"
    assert [name for name in flow.__all__ if f"`flow.{name}" not in text and name not in ("FlowClass",)] == []


def test_the_page_about_dbus_names_every_method_signal_and_property() -> None:
    text = (ROOT / "docs" / "dbus.md").read_text()
    named = set(re.findall(r'<(?:method|signal|property) name="(\w+)"', INTROSPECTION))

    assert {name for name in named if not re.search(rf"\b{name}\b", text)} == set()


def test_the_page_about_problems_lists_every_key_with_its_meaning_and_the_exit_codes() -> None:
    text = (ROOT / "docs" / "problems.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", text, re.MULTILINE))

    assert {key: listed.get(key) for key in KEYS} == KEYS
    assert all(f"{code} {verdict.replace('-', ' ')}" in text for verdict, code in EXIT_CODES.items())


def test_the_page_about_threats_names_tests_that_there_are_and_a_row_for_every_finding() -> None:
    text = (ROOT / "docs" / "threats.md").read_text()
    named = set(re.findall(r"`((?:\w+/)*(?:test|fuzz)_\w+\.(?:py|c))`", text))
    rows = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)

    assert len(named) > 60
    assert sorted(one for one in named if not (ROOT / "tests" / one).exists()) == []
    assert rows == [str(number) for number in range(1, 25)]


def test_what_the_page_about_threats_quotes_from_a_file_is_in_the_name_of_a_test_there() -> None:
    text = (ROOT / "docs" / "threats.md").read_text()
    quoted = re.findall(r"`((?:\w+/)*test_\w+\.py)`: ([^;|(`]+)", text)

    def name(sentence: str) -> str:
        return re.sub(r"[^a-z0-9]+", "_", sentence.lower().replace("'", "")).strip("_")

    assert len(quoted) > 25
    assert [
        (file, sentence)
        for file, sentence in quoted
        if not re.search(rf"def test_\w*{name(sentence)}", (ROOT / "tests" / file).read_text())
    ] == []


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a parser and of its subcommands, without those that all programs have."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found.update(*map(options_of, action.choices.values()))
    return found - {"-h", "--help", "--version"}


def test_the_page_about_the_tools_names_their_options_their_reasons_and_their_exit_codes() -> None:
    text = (ROOT / "docs" / "tools.md").read_text()

    for parser in (lig.build_parser(), echo_cli.build_parser()):
        assert {option for option in options_of(parser) if f"`{option}`" not in text} == set()
    assert {kind for kind in typing.get_args(ReasonKind) if f"| `{kind}` |" not in text} == set()
    codes = (0, lig.EXIT_NO_ANSWER, 2, lig.EXIT_UNKNOWN, lig.EXIT_NO_LOCATORS, lig.EXIT_INTERRUPTED)
    assert all(f"| {code} | " in text for code in codes)


def test_the_page_about_old_configurations_names_the_options_of_a_conversion() -> None:
    text = (ROOT / "docs" / "old-configurations.md").read_text()
    parser = HelpfulParser()
    config.add_arguments(parser)

    shared = {"--socket", "--output"}  # options of lispctl itself; the page names `-o`
    assert {option for option in options_of(parser) - shared if option not in text} == set()


def test_the_page_about_tests_has_a_row_for_every_folder_and_names_files_that_exist() -> None:
    tests = Path(__file__).parent
    text = (tests / "README.md").read_text()
    folders = {path.name for path in tests.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}

    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == folders
    named = {name for name in re.findall(r"`([\w./]+\.py)`", text) if not name.startswith("tests/")}
    assert [name for name in named if not (tests / name).exists() and not list(tests.rglob(name))] == []
