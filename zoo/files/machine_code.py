"""Compiles pixel loops with Numba, and keeps their machine code in the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba

from zoo.errors import ZooError
from zoo.files.cache import Cache


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function that releases the interpreter lock.

    Its machine code is kept in the folder `numba` of the cache, or in `NUMBA_CACHE_DIR` where that is set.
    Where neither can be written, nor the folders that Numba chooses itself, it lives in memory alone.
    """
    config: Any = numba.config
    config.CACHE_DIR = config.CACHE_DIR or _folder()
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # Numba found no folder for its cache
        return numba.njit(nogil=True)(function)


@functools.cache
def _folder() -> str:
    """Returns the folder for machine code, or "" where it cannot be written."""
    try:
        return str(Cache().folder("numba"))
    except ZooError:
        return ""
