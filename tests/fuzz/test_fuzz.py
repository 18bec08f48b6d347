"""Damaged input of every kind: the right result, or one line and a documented exit code.

`FUZZ_CASES=20000 pytest -n 2 tests/fuzz/test_fuzz.py` tries so many cases, in about an hour. FUZZ_SEED makes
them others, and FUZZ_FIRST begins with that case: `FUZZ_CASES=1 FUZZ_FIRST=17 pytest -k 'run_records'`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from driver import CASES, FIRST, SEED, run
from kinds import SHARES


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.usefixtures("quick")
def test_damaged_input_is_one_line_or_right(
    name: str, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kind = table.kinds()[name]
    cases = -(-CASES * kind.cases // sum(SHARES.values())) if CASES else kind.cases
    faults = run(kind, name, SEED, range(FIRST, FIRST + cases), tmp_path / "ground")
    assert not faults, "\n".join([f"{name}: {len(faults)} faults", *faults])
