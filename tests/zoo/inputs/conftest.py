"""What tests of pictures and of videos share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from zoo.errors import DataError


@pytest.fixture
def refuses(tmp_path: Path) -> Callable[[Callable[[Path], object], Mapping[str, str]], None]:
    """Returns a function that checks that reading files gives one line each, which has the expected words."""

    def check(read: Callable[[Path], object], expected: Mapping[str, str]) -> None:
        for name, words in expected.items():
            with pytest.raises(DataError) as raised:
                read(tmp_path / name)
            message = str(raised.value)
            assert message.startswith(f"{tmp_path / name}: ")
            assert words in message
            assert "\n" not in message

    return check
