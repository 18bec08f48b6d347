from __future__ import annotations

import os

import pytest

from zoo.files.tensorflow import keep_feature_maps


def test_a_users_choice_of_allocator_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPU_ALLOCATOR_USE_BFC", "0")
    monkeypatch.setenv("TF_CPU_BFC_MEM_LIMIT_IN_MB", "100")
    keep_feature_maps()
    assert (os.environ["TF_CPU_ALLOCATOR_USE_BFC"], os.environ["TF_CPU_BFC_MEM_LIMIT_IN_MB"]) == ("0", "100")
    monkeypatch.delenv("TF_CPU_ALLOCATOR_USE_BFC")
    keep_feature_maps()
    assert os.environ["TF_CPU_ALLOCATOR_USE_BFC"] == "1"
