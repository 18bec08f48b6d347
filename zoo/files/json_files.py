"""JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.files.atomic import GIVE_OUT, write_atomically


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns a JSON object from a file, or None if there is none or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Any, *, remedy: str = GIVE_OUT) -> None:
    """Writes `value` for good, by `write_atomically`; raises ValueError for NaN and infinities."""
    write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n", remedy=remedy)
