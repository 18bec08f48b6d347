from __future__ import annotations

import gc
import subprocess
import sys

import psutil
import pytest

from zoo.files.processes import memory_of, without_collection

HOLDS_MEMORY = "import sys; held = bytearray(200 << 20); print(1, flush=True); sys.stdin.read()"
STARTS_IT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS_MEMORY!r}])"


def test_memory_is_that_of_all_descendants() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_IT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        (child,) = psutil.Process(process.pid).children()
        held_bytes = memory_of(process.pid)
        expected = sum(psutil.Process(pid).memory_info().rss for pid in (process.pid, child.pid))
        assert held_bytes == pytest.approx(expected, rel=0.05)
        assert held_bytes > 200 << 20
        process.stdin.close()
    assert memory_of(process.pid) == 0


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_after_a_block_as_before_it(collects: bool) -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise ValueError("in the block")

    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ValueError, match="in the block"), without_collection():
            fail()
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()
