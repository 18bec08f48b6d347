"""Asks a store again where that may help."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from zoo.errors import DownloadError
from zoo.remote.http import InterruptedTransferError

ATTEMPTS = 4
"""So many failures in a row are enough."""

FIRST_DELAY_S = 0.5
"""The wait after the first of them; it doubles with each further one."""

_LONGEST_DELAY_S = 30.0

_T = TypeVar("_T")


def insist(url: str, ask: Callable[[], _T]) -> _T:
    """Returns what a question to a store about `url` gives, asked again after an `InterruptedTransferError`.

    Raises:
      DownloadError: it failed each time.
    """
    for failures in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except InterruptedTransferError as interruption:
            if failures == ATTEMPTS:
                raise DownloadError(
                    f"{url}: {interruption.reason}, {failures} times in a row; try again later: "
                    "what is done is kept"
                ) from interruption
            wait_s = FIRST_DELAY_S * 2 ** (failures - 1)
            time.sleep(min(max(interruption.retry_after_s or 0.0, wait_s), _LONGEST_DELAY_S))
    raise AssertionError
