"""The format of LISPmob's and Open Overlay Router's files: that of libconfuse. Pure.

    statement := name = value | name = { value, ... } | name { statement ... }
    comments:    # and // to the end of the line, /* ... */

A value is a bare word or quoted. The parser does not stop at a mistake: it notes the line, skips the rest of that line,
and continues.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from lispmob.convert.tree import MAX_DEPTH, MAX_MISTAKES, Block, Item, Mistake, OldFile, Setting, plain_name

_TOKEN: Final = re.compile(
    r"""(?P<blank>[ \t\r\f\v]+)
    |(?P<newline>\n)
    |(?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<marker><!--[^\n]*)
    |(?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<sign>\+=|[{}=,()])
    |(?P<word>(?:[^\s{}=,()\#"'+]|\+(?!=))+)
    |(?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def parse_confuse(text: str) -> OldFile:
    """Read a file in this format."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._mistakes: list[Mistake] = []
        self._tokens = self._split(text)
        self._next = 0

    def parse(self) -> OldFile:
        items = self._statements(depth=0, opened=0)
        return OldFile("confuse", Block("", tuple(items), 1), tuple(self._mistakes))

    def _split(self, text: str) -> list[_Token]:
        tokens, line, has_markers = [], 1, False
        for found in _TOKEN.finditer(text):
            kind, piece = found.lastgroup or "bad", found[0]
            if kind == "marker" and not has_markers:
                has_markers = True
                self._fail(line, "<!-- ... --> is no comment of this language; these lines are passed over")
            elif kind == "bad":
                self._fail(line, "a quote is opened and not closed")
            elif kind in ("quoted", "sign", "word"):
                tokens.append(_Token(kind, _unquoted(piece) if kind == "quoted" else piece, line))
            line += piece.count("\n")
        return tokens

    def _fail(self, line: int, text: str) -> None:
        if len(self._mistakes) < MAX_MISTAKES:
            self._mistakes.append(Mistake(line, text))

    def _peek(self, ahead: int = 0) -> _Token | None:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else None

    def _is_sign(self, sign: str, ahead: int = 0) -> bool:
        token = self._peek(ahead)
        return token is not None and token.kind == "sign" and token.text == sign

    def _statements(self, depth: int, opened: int) -> list[Item]:
        """All statements up to the closing brace of the block that line `opened` opens (0: the file)."""
        items: list[Item] = []
        while (token := self._peek()) is not None:
            if self._is_sign("}"):
                self._next += 1
                if opened:
                    return items
                self._fail(token.line, "'}' without a '{'")
            elif token.kind == "sign":
                self._skip_line(token, f"'{token.text}' where a name is expected")
            elif (item := self._statement(token, depth)) is not None:
                items.append(item)
        if opened:
            self._fail(opened, "this '{' is never closed")
        return items

    def _statement(self, name: _Token, depth: int) -> Item | None:
        self._next += 1
        if self._is_sign("=") or self._is_sign("+="):
            self._next += 1
            return self._setting(name)
        if self._is_sign("{") or (self._is_sign("{", 1) and self._is_on(name.line)):
            self._next += 1 if self._is_sign("{") else 2  # a title stands between name and brace
            if depth >= MAX_DEPTH:
                self._skip_line(name, f"nested deeper than {MAX_DEPTH} levels")
                return None
            return Block(plain_name(name.text), tuple(self._statements(depth + 1, name.line)), name.line)
        if self._is_sign("("):
            self._skip_line(name, f"{name.text[:40]}(...) is not followed: put the other file's lines here")
            return None
        self._skip_line(name, "neither '=' nor '{' after the name")
        return None

    def _is_on(self, line: int) -> bool:
        token = self._peek()
        return token is not None and token.kind != "sign" and token.line == line

    def _setting(self, name: _Token) -> Setting | None:
        token = self._peek()
        if token is None or (token.kind == "sign" and token.text != "{"):
            self._skip_line(name, f"{plain_name(name.text)}: there is no value")
            return None
        self._next += 1
        if token.kind != "sign":
            return Setting(plain_name(name.text), (token.text,), name.line)
        values = []
        while (token := self._peek()) is not None and not self._is_sign("}"):
            self._next += 1
            if token.kind != "sign":
                values.append(token.text)
            elif token.text != ",":
                self._fail(token.line, f"'{token.text}' inside a list")
        if token is None:
            self._fail(name.line, f"{plain_name(name.text)}: the list is never closed")
        self._next += 1
        return Setting(plain_name(name.text), tuple(values), name.line)

    def _skip_line(self, token: _Token, why: str) -> None:
        """Note a mistake and skip the rest of its line, up to a closing brace."""
        self._fail(token.line, why)
        while (rest := self._peek()) is not None and rest.line == token.line:
            if self._is_sign("}") and rest is not token:
                break
            self._next += 1


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1], flags=re.DOTALL)
