from __future__ import annotations

import os

import pytest

from zoo.files.tensorflow import keep_feature_maps

ALLOCATOR = "TF_CPU_ALLOCATOR_USE_BFC"


@pytest.mark.parametrize(
    ("onednn", "chosen", "expected"), [("0", None, "1"), ("1", None, None), ("0", "0", "0"), ("1", "1", "1")]
)
def test_memory_is_kept_where_onednn_is_off_unless_the_user_decides(
    onednn: str, chosen: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    # Restored afterwards, also where the test sets them.
    for name in (ALLOCATOR, "TF_CPU_BFC_MEM_LIMIT_IN_MB"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if chosen is not None:
        monkeypatch.setenv(ALLOCATOR, chosen)
    keep_feature_maps()
    assert os.environ.get(ALLOCATOR) == expected
