"""Messages about what a file declares: "expected ..., found ...", and "did you mean"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from zoo.errors import RegistryError

KeyPath = tuple[str | int, ...]

# The end of a message about a template, which names the declaration that extends it.
_THROUGH = re.compile(r" \(extended by \S+\)$")

_EXPECTED = {
    "missing": "a value",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "string_type": "text",
    "string_too_short": "text",
    "int_type": "an integer",
    "bool_type": "true or false",
    **dict.fromkeys(("float_type", "float_parsing", "decimal_type", "decimal_parsing"), "a number"),
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "a list of {min_length} or more values",
    "too_long": "a list of {max_length} or fewer values",
}


class Problems:
    """What is wrong in files: a line for each problem, the same one only once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def add(self, *errors: RegistryError) -> None:
        """Adds the lines of errors; one that each heir of a template meets counts once."""
        for line in (line for error in errors for line in str(error).splitlines()):
            self._lines.setdefault(_THROUGH.sub("", line), line)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Adds the RegistryError that the block raises, instead of raising it."""
        try:
            yield
        except RegistryError as error:
            self.add(error)

    def check(self) -> None:
        """Raises a RegistryError with all lines, where there are any."""
        if self._lines:
            raise RegistryError("\n".join(self._lines.values()))


def describe_value(value: Any) -> str:
    """Returns a value as an error message shows it: short, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        is_short = 0 < len(value) <= 3
        return f"a mapping with {', '.join(map(str, value))}" if is_short else f"a mapping of {len(value)}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(describe_value, value))}]" if len(value) <= 4 else f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def close_matches(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Returns the known names that `name` may be a misspelling of, in any case, best first."""
    from difflib import get_close_matches

    plain = {text.casefold(): text for text in known}
    return [plain[match] for match in get_close_matches(name.casefold(), plain, n=most, cutoff=0.7)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the end of an error message about an unknown name; empty where nothing is close."""
    close = close_matches(name, known, most=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def explain_error(model: type[BaseModel], error: ErrorDetails) -> tuple[KeyPath, str]:
    """Returns a validation error as the path of the key at fault, and "expected …, found …"."""
    path, kind, context = tuple(error["loc"]), error["type"], error.get("ctx", {})
    if kind == "wrong_key":
        return (*path, context["key"]), f"expected {context['expected']}, found {context['found']}"
    if kind == "extra_forbidden":
        fields = _model_at(model, path[:-1]).model_fields
        keys = [name for name in fields if len(path) > 1 or name not in ("name", "kind")]
        hint = did_you_mean(str(path[-1]), keys)
        return path, f"expected one of the keys {', '.join(keys)}, found {path[-1]!r}{hint}"
    found = "none" if kind == "missing" else describe_value(error["input"])
    if kind == "literal_error":
        expected = context["expected"]
    elif kind == "string_pattern_mismatch":
        expected = f"text that matches {context['pattern']}"
    else:
        expected = _EXPECTED.get(kind, "").format_map(context)
        expected = expected or error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return path, f"expected {expected}, found {found}"


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """Returns the schema class of the mapping at `path`."""
    for part in path:
        if isinstance(part, str):
            model = next(models_in(model.model_fields[part].annotation))
    return model


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the schema classes that a field's annotation names."""
    # For Python 3.10 `tuple[int, ...]` is a type too.
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)
