"""Phrasings that we do not use: they are unclear, or the field has a word for what they say."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".c", ".h", ".md", ".conf", ".service"}

BANNED = {
    r"\banew\b": "again",
    r"paid by the octet": "metered",
    r"\bthe dice\b": "at random",
    r"\bdies? of (?:it|one|that)\b": "crashes on",
    r"\bmade do with\b": "used meanwhile",
    r"letter by letter": "exactly as written",
    r"\b(?:uplinks|locators|addresses|programs|rules) of the moment\b": "the current ...",
    r"\bhow many it were\b": "returns how many",
    r"\bnobody (?:any more|at all) (?:who|that)\b": "say who does what",
    r"\bwhosoever\b": "who",
    r"\bthereof\b|\bhereby\b|\btherein\b": "of it, by this, in it",
    r"\b(?:utils|helpers)\b": "what the functions are about",
    r"\bopen checksums?\b|\bchecksums? (?:that )?(?:is|are|was|were)? ?left open\b": "partial checksum",
    r"\bjoined runs?\b": "run",
}
"""A pattern, regardless of case, and what to write instead."""

FOLDERS = sorted(path.parent.name for path in (ROOT / "lispmob").glob("*/__init__.py"))

COINED = re.compile(
    r"""
    \b(?: Stranger | Meaning | Fate | Trouble      # UnregisteredSource, ManagerState, FlowVerdict, RefusalReason
       | \w*(?:_|\b)(?:is|was)_told | told_of      # reported, announced, informed, notified
       | lm_told | lm_fate | outbox )\b   # lm_reported, lm_flow_verdict, batch
    """,
    re.VERBOSE,
)
"""Names that the product had, and that the field has better ones for."""

VAGUE = re.compile(
    r"\b(?:(?:no|some|any|every)(?:body|one)(?:'?s)?|no one|whoever|him|his|becomes of|comes of)\b", re.IGNORECASE
)
"""Not in comments: name the node, program or user that is meant. The name of the Unix user is quoted: `nobody`."""


def texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    named = [ROOT / line for line in listed.stdout.splitlines()] or [*ROOT.glob("lispmob/**/*"), *ROOT.glob("docs/*")]
    return [path for path in named if path.suffix in SUFFIXES and path.is_file() and path != Path(__file__)]


@pytest.mark.parametrize(("pattern", "better"), BANNED.items())
def test_a_banned_phrasing_is_in_no_text(pattern: str, better: str) -> None:
    sought = re.compile(pattern, re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if sought.search(line)
    ]

    assert not found, f"write: {better}"


def test_every_word_of_the_glossary_is_used_and_its_place_exists() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    places = set(re.findall(r"`((?:lispmob|tests|c)/[\w./]+)`", text))
    c_folder = ROOT / "lispmob" / "datapath"

    missing = [place for place in places if not (ROOT / place).exists() and not (c_folder / place).exists()]
    assert missing == []


def comments(source: str) -> list[tuple[int, str]]:
    """The line number and text of each comment, and of each string that is a statement, such as a docstring."""
    found, is_statement = [], True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and is_statement):
            found.append((token.start[0], token.string))
        if token.type not in {tokenize.COMMENT, tokenize.NL}:
            is_statement = token.type in {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    return found


def c_comments(source: str) -> list[tuple[int, str]]:
    """The same for C and BPF: each line of a comment with its number. A comment sign within a string is none."""
    found = re.finditer(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', source, re.DOTALL)
    return [
        (source.count("\n", 0, match.start()) + 1 + number, line)
        for match in found
        if not match[0].startswith('"')
        for number, line in enumerate(match[0].splitlines())
    ]


def vague_lines(source: str, suffix: str) -> list[int]:
    """The lines of comments that do not name who is meant; quoted text does not count."""
    found = comments(source) if suffix == ".py" else c_comments(source)
    return [number for number, text in found if VAGUE.search(re.sub(r"`[^`]*`|\"[^\"\n]*\"", "", text.strip('"')))]


def vague_comments(paths: Iterable[Path]) -> list[str]:
    """The places in these files, in Python and C."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(paths)
        if path.suffix in {".py", ".c", ".h"} and not path.name.startswith(("_lispdp.", "_lispcrypto."))  # cffi's
        for number in vague_lines(path.read_text(), path.suffix)
    ]


@pytest.mark.parametrize(
    ("source", "suffix", "found"),
    [
        ("# nobody answers", ".py", [1]),
        ("# the user `nobody` may not read it", ".py", []),
        ('"""Anyone may ask."""', ".py", [1]),
        ('"""Nobody\'s and "nobody"."""', ".py", [1]),
        ('"""What "nobody" is called in a problem."""', ".py", []),
        ('text = "nobody answers"', ".py", []),
        ("nobody = 65534  # its number", ".py", []),
        ("int a;\n/* for\n * someone */", ".c", [3]),
        ("int nobody;  // a user", ".h", []),
    ],
)
def test_a_comment_may_quote_these_words_and_not_use_them(source: str, suffix: str, found: list[int]) -> None:
    assert vague_lines(source, suffix) == found


@pytest.mark.parametrize("folder", FOLDERS)
def test_comments_name_who_is_meant(folder: str) -> None:
    assert vague_comments((ROOT / "lispmob" / folder).rglob("*.*")) == []


def test_comments_of_single_files_name_who_is_meant() -> None:
    assert vague_comments((ROOT / "lispmob").glob("*.*")) == []


def test_comments_of_tests_name_who_is_meant() -> None:
    assert vague_comments((ROOT / "tests").rglob("*.*")) == []


def test_a_comment_in_c_is_found_on_its_line_and_not_within_a_string() -> None:
    source = 'int a; /* one\n * two */\nchar *b = "/* not this */"; // three\n'

    assert c_comments(source) == [(1, "/* one"), (2, " * two */"), (3, "// three")]


@pytest.mark.parametrize("vague", ["/* whoever asks */", "/*\n * A packet of\n * somebody else.\n */", "// ask him"])
def test_a_comment_in_c_that_does_not_name_who_is_meant_is_found(vague: str) -> None:
    assert [text for _, text in c_comments(vague) if VAGUE.search(text)]


def test_no_name_of_the_product_is_one_that_was_coined() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        if path.suffix in {".py", ".c", ".h"} and path.is_relative_to(ROOT / "lispmob")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if COINED.search(re.sub(r"\"[^\"\n]*\"|#.*|^\s*\*.*|/\*.*", "", line))
    ]

    assert found == []


def test_names_of_tests_use_none_of_these_words_either() -> None:
    patterns = [VAGUE, *(re.compile(pattern, re.IGNORECASE) for pattern in BANNED)]
    found = [
        name
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"def (test_\w+)", path.read_text())
        if any(pattern.search(name.replace("_", " ")) for pattern in patterns)
    ]

    assert found == []
