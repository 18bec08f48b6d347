"""Ways to damage what is given to the program: bytes, text, and the values of JSON and YAML."""

from __future__ import annotations

import copy
import random
from typing import Any

LONG = "9" * 5000

# What shows markup, a formula, a terminal's code, or another reading direction where it is not escaped.
HOSTILE_TEXTS = (
    *("", " ", "\0", "\x1b[2J\x1b[31mred", "\u202egnp.exe", "\u2028line", "a\nb", "a\tb\rc", "\x9b31m"),
    *("<script>alert(1)</script>", "</title><svg onload=alert(1)>", '" onmouseover="x', "&lt;"),
    *("[x](javascript:alert(1))", "![x](http://x)", "a|b", "`x`", "**x**", "<!--", "{{x}}", "$(id)", "%s%n"),
    *("=1+1", "+1", "-1", "@x", "\tx", "../../../etc/passwd", "/etc/passwd", "C:\\x", "~root", "file:///etc"),
    *(
        "\ud800",
        "\u0440\u0430y\u0440\u0430",
        "ﬁ",
        "\u200b",
        "\ufeff",
        "e\u0301",
        "x" * 70_000,
        "[bold]x[/bold]",
        "[/x]",
    ),
)
HOSTILE_NUMBERS = (
    *(0, -1, 1, 2, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, float("inf"), -float("inf"), float("nan")),
)


def hostile(rng: random.Random) -> Any:
    """Returns a value that is of a wrong type, of a wrong size, or made to be misread."""
    kinds = (HOSTILE_TEXTS, HOSTILE_NUMBERS, (None, True, False, [], {}, [[]], {"": {}}, [None] * 3))
    return copy.deepcopy(rng.choice(rng.choice(kinds)))


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Returns bytes with flips, cuts, holes, repeats or exchanges; one kind of them, mostly once."""
    changed = bytearray(data)
    way = rng.randrange(8)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(changed)) if changed else 0
        span = rng.choice((1, 2, 4, 16, 100, 4096))
        if way <= 2 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 3:
            del changed[at:]
        elif way == 4:
            del changed[at : at + span]
        elif way == 5:
            changed[at : at + span] = bytes(len(changed[at : at + span]))
        elif way == 6:
            changed[at:at] = changed[max(0, at - span) : at] * rng.choice((1, 2, 50))
        else:
            changed[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", rng.randbytes(4)))
    return bytes(changed)


def flip_bit(data: bytes, rng: random.Random) -> bytes:
    """Returns bytes with one bit flipped."""
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damage_text(text: str, rng: random.Random) -> str:
    """Returns a text with words, lines or characters exchanged, repeated, lost or put in."""
    way = rng.randrange(5)
    if way == 0:
        return damage_bytes(text.encode(errors="surrogatepass"), rng).decode("utf-8", errors="replace")
    lines = text.splitlines(keepends=True) or [""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    if way == 1:
        lines[at:at] = [lines[other]] * rng.choice((1, 1, 3, 500))
    elif way == 2:
        del lines[at : at + rng.choice((1, 1, 5, 100))]
    elif way == 3:
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = _text_of(hostile(rng))
        lines[at] = " ".join(words)
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return "".join(lines)


def _text_of(value: Any) -> str:
    # Python itself refuses to print numbers of so many digits.
    return LONG if isinstance(value, int) and abs(value) > 2**200 else str(value)


def damage_value(value: Any, rng: random.Random) -> Any:
    """Returns a copy of JSON-like values in which some are exchanged, gone, repeated, or moved elsewhere."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = list(_places(changed))
        if not places:
            return hostile(rng)
        container, key = rng.choice(places)
        way = rng.randrange(10)
        if way <= 4:
            container[key] = hostile(rng)
        elif way == 5:
            del container[key]
        elif way == 6:
            other, name = rng.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                container[key] = copy.deepcopy(other[name])
        elif way == 7 and isinstance(container, dict):
            container[rng.choice(HOSTILE_TEXTS[:-2])] = container.pop(key)
        elif way == 8 and isinstance(container, list):
            container += [copy.deepcopy(container[key])] * rng.choice((1, 30))
        else:
            container[key] = _nested(container[key], rng)
    return changed


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from _places(part)


def _nested(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 3, 300))):
        value = [value] if rng.random() < 0.5 else {"x": value}
    return value
