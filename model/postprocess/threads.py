"""Spreads blocks of an image's rows over threads.

The compiled pixel loops of this folder work on the rows `[start, stop)` of one image and release the
interpreter lock. Their float32 arithmetic is done operation by operation, in the order of the reference,
without contraction: results are equal to the bit, and so are the ties.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

ROWS_PER_BLOCK = 32

_pools: dict[int, ThreadPoolExecutor] = {}


def _threads() -> int:
    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def workers_for(height: int) -> int:
    """Returns how many threads share an image's rows: `NUMBA_NUM_THREADS`, or fewer for few rows."""
    return max(1, min(_threads(), -(-height // ROWS_PER_BLOCK)))


def for_rows(height: int, task: Callable[[int, int, int], Any]) -> list[Any]:
    """Calls `task(worker, start, stop)` for each block of rows, on several threads.

    Threads take the next block when they are free, so that neither busy cores nor busy rows hold the others
    up. A worker runs one task at a time: what `task` keeps per worker needs no lock.

    Returns:
      What the tasks returned, from the top block down.
    """
    workers = workers_for(height)
    starts = iter(range(0, height, ROWS_PER_BLOCK))

    def work(worker: int) -> list[tuple[int, Any]]:
        return [(start, task(worker, start, min(start + ROWS_PER_BLOCK, height))) for start in starts]

    # Threads do not survive a fork: each process has its own pool.
    pool = _pools.get(os.getpid())
    if pool is None and workers > 1:
        pool = _pools.setdefault(os.getpid(), ThreadPoolExecutor(_threads(), "postprocess"))
    others = [pool.submit(work, worker) for worker in range(1, workers)] if pool is not None else []
    done = work(0)
    for other in others:
        done.extend(other.result())
    return [result for _, result in sorted(done, key=lambda block: block[0])]
