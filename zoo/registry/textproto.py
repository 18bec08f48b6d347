"""Reads the text format of protocol buffers, without a description of the messages in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from zoo.errors import RegistryError

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>-?[ \t]*(?:\.?\d(?:[eE][+-]?\d|[\w.])*|[A-Za-z_]\w*))
    |(?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|(.))")
_ESCAPED = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))
_TRUTHS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_CLOSING = {"{": "}", "<": ">"}
_DEEPEST = 100


class Name(str):
    """A word without quotes that is neither a number nor true or false, such as an enum's value."""


@dataclass(frozen=True)
class Value:
    """A scalar, or a message: the values of each field, in the order of the text."""

    line: int  # of the name of the field that has it
    content: str | float | dict[str, list[Value]]

    def line_of(self, place: str) -> int:
        """Returns the line of a field such as `model_options.backbone.name`, or of the nearest above it."""
        name, _, rest = place.partition(".")
        found = self.content.get(name) if isinstance(self.content, dict) else None
        return found[0].line_of(rest) if found else self.line

    def value_of(self, place: str) -> str | float | dict[str, list[Value]] | None:
        """Returns what a field such as `model_options.backbone.name` holds; None where it is not there."""
        name, _, rest = place.partition(".")
        found = self.content.get(name) if isinstance(self.content, dict) else None
        if not found:
            return None
        return found[0].value_of(rest) if rest else found[0].content


class _Token(NamedTuple):
    kind: str  # string, word, mark, or end
    text: str
    line: int


def parse_textproto(text: str, label: str) -> Value:
    """Parses a message; raises RegistryError, with `label` and line, where the text breaks the grammar."""
    return _Parser(text, label).message("", 1, 0)


class _Parser:
    def __init__(self, text: str, label: str) -> None:
        self._label = label
        self._coming = self._tokens(text)
        self._token = next(self._coming)

    def message(self, closing: str, line: int, depth: int) -> Value:
        """Reads fields up to `closing`; "" is the end of the file."""
        if depth > _DEEPEST:
            raise self._expected(f"at most {_DEEPEST} messages inside each other")
        fields: dict[str, list[Value]] = {}
        while not self._takes(closing):
            if self._token.kind != "word" or not self._token.text.isidentifier():
                ending = f" or {closing!r}, which closes line {line}" if closing else ""
                raise self._expected(f"a field name{ending}")
            name = self._step()
            has_colon, is_list = self._takes(":"), self._takes("[")
            values = fields.setdefault(name.text, [])
            while not (is_list and self._takes("]")):
                values.append(self._value(name.line, has_colon, depth))
                if not is_list:
                    break
                if not self._takes(",") and self._token.text != "]":
                    raise self._expected("',' or ']'")
            _ = self._takes(",") or self._takes(";")
        return Value(line, fields)

    def _value(self, line: int, has_colon: bool, depth: int) -> Value:
        if self._token.kind == "mark" and self._token.text in _CLOSING:
            return self.message(_CLOSING[self._step().text], line, depth + 1)
        if not has_colon or self._token.kind not in ("string", "word"):
            raise self._expected("a value" if has_colon else "':' or '{'")
        if self._token.kind == "word":
            return Value(line, _word(re.sub(r"\s", "", self._step().text)))
        text = b""
        while self._token.kind == "string":  # strings beside each other are one
            text += _ESCAPE.sub(self._unescaped, self._token.text[1:-1].encode())
            self._step()
        return Value(line, text.decode(errors="replace"))

    def _unescaped(self, escape: re.Match[bytes]) -> bytes:
        octal, digits, unicode, character = escape.groups()
        try:
            if unicode:
                return chr(int(unicode[1:], 16)).encode()
            return bytes([_ESCAPED[character[0]] if character else int(octal or digits, 8 if octal else 16)])
        except (KeyError, ValueError, OverflowError):
            raise self._expected("a known escape in the string") from None

    def _tokens(self, text: str) -> Iterator[_Token]:
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                self._token = _Token("", text[position:].partition("\n")[0][:40], line)
                raise self._expected("a field, a value, or a string that ends on its line")
            if match.lastgroup != "space":
                yield _Token(str(match.lastgroup), match[0], line)
            position, line = match.end(), line + match[0].count("\n")
        yield _Token("end", "", line)

    def _step(self) -> _Token:
        token, self._token = self._token, next(self._coming, self._token)
        return token

    def _takes(self, mark: str) -> bool:
        return self._token.kind in ("mark", "end") and self._token.text == mark and bool(self._step())

    def _expected(self, expected: str) -> RegistryError:
        found = repr(self._token.text) if self._token.kind != "end" else "the end of the file"
        return RegistryError(f"{self._label}:{self._token.line}: expected {expected}, found {found}")


def _word(word: str) -> str | float:
    for text in (word, word.rstrip("fF")):
        for read in (_TRUTHS.__getitem__, partial(int, base=0), partial(int, base=8), float):
            try:
                return read(text)  # type: ignore[operator, no-any-return]
            except (KeyError, ValueError):
                pass
    return Name(word)
