from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives each file of tests a cache and a lock file of its own; some give one to each test."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("ZOO_CACHE", str(folder))
        patch.setenv("ZOO_LOCK", str(folder / "zoo.lock"))
        yield
