"""The line of an invitation: reading gives what was written, and a changed line is detected."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.joining.invitation import PREFIX, BadInvitation, Invitation, read_invitation

ADDRESSES = (ip_address("198.51.100.1"), ip_address("2001:db8::1"))
MADE = Invitation(ADDRESSES, b"\x01" * 8, 29_000_000, b"\x02" * 16)
OTHER = Invitation(ADDRESSES, b"\x03" * 8, 29_000_000, b"\x04" * 16)


@given(
    st.lists(st.ip_addresses(), min_size=1, max_size=8),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=16, max_size=16),
    st.none() | st.binary(min_size=32, max_size=32),
)
def test_an_invitation_survives_its_line(
    addresses: list[object], identifier: bytes, expires_min: int, secret: bytes, public_key: bytes | None
) -> None:
    made = Invitation(tuple(addresses), identifier, expires_min, secret, public_key)  # type: ignore[arg-type]

    assert read_invitation(made.line()) == made


def test_a_line_has_letters_that_no_shell_expands_and_fits_two_lines_of_a_terminal() -> None:
    line = MADE.line()

    assert set(line) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567-1")
    assert len(line) <= 100


def test_blanks_breaks_and_small_letters_do_no_harm() -> None:
    line = MADE.line()

    assert read_invitation(f"  {line[:40].lower()}\n {line[40:]} ") == MADE


LINE = MADE.line()
CARRIED = {
    "a reader of QR codes": f"{LINE}\r\n\x00",
    "a mail that was answered": f"> {LINE[:30]}\n> {LINE[30:]}\n",
    "a mail in quoted-printable": f"{LINE[:76]}=\r\n{LINE[76:]}",
    "a word processor": f"\u201c{LINE.replace('-', chr(0x2011))}\u201d",
    "a messenger that makes long hyphens": LINE.replace("-", "\u2013"),
    "a page that breaks words": "\u200b".join(LINE),
    "a page with soft hyphens": "\u00ad".join(LINE[at : at + 8] for at in range(0, len(LINE), 8)),
    "a text that runs from right to left": f"\u202a{LINE}\u202c",
    "a file with a mark of its byte order": f"\ufeff{LINE}",
    "pieces of four": " ".join(LINE[at : at + 4] for at in range(0, len(LINE), 4)),
    "the whole command": f"sudo lispctl join {LINE.lower()}",
    "quotes of a shell": f"'{LINE}'",
    "a hand that pasted twice": LINE * 2,
    "a hand that pasted twice, with the command": f"sudo lispctl join {LINE} sudo lispctl join {LINE}",
    "a mail with the line and its copy in small letters": f"{LINE}\r\n\r\n> {LINE.lower()}\r\n",
}


@pytest.mark.parametrize("way", CARRIED)
def test_it_may_be_carried_by(way: str) -> None:
    assert read_invitation(CARRIED[way]) == MADE


@given(st.integers(len(PREFIX), len(MADE.line()) - 1), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_letter_that_was_changed_is_noticed(place: int, letter: str) -> None:
    line = MADE.line()
    changed = line[:place] + letter + line[place + 1 :]

    if changed != line:
        try:
            read = read_invitation(changed)
        except BadInvitation:
            return
        assert read == MADE  # the last letter has bits that belong to no octet


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no invitation"),
        ("tskey-abc", "no invitation"),
        ("LISP-2-AAAA", "newer than this lispmob: upgrade lispmob here"),
        (MADE.line()[:-8], "incomplete"),
        (MADE.line() + "1", "a letter that no invitation has"),
        (PREFIX + "A" * 2000, "too long"),
        (PREFIX + " " * 100_000, "too long"),
        (f"Join with {MADE.line()}", "no invitation"),
        (f"{MADE.line()} and be quick", "incomplete"),
        (MADE.line().replace("A", "\uff21"), "a letter that no invitation has"),
        (MADE.line() + "\ufb01", "a letter that no invitation has"),
        (MADE.line() + OTHER.line(), "more than one invitation"),
        (f"{MADE.line()} {PREFIX}", "more than one invitation"),
        (MADE.line() + MADE.line()[:40], "more than one invitation"),
        (MADE.line().removeprefix(PREFIX), "no invitation"),
        ("LISP-", "no invitation"),
        ("LISP-0-AAAA", "older than this lispmob: upgrade it, and invite again"),
    ],
)
def test_what_is_no_invitation_is_told(text: str, why: str) -> None:
    with pytest.raises(BadInvitation, match=why):
        read_invitation(text)


@given(st.text(max_size=300))
def test_any_text_is_an_invitation_or_a_clear_error(text: str) -> None:
    for line in (text, PREFIX + text):
        try:
            read_invitation(line)
        except BadInvitation:
            continue


def test_the_secret_is_not_in_the_text_of_the_value() -> None:
    assert "\\x02" not in repr(MADE)
