"""What the tests of downloads fetch, what it leaves on disk, and how an error reads."""

from __future__ import annotations

import hashlib
import random

import pytest

from zoo.errors import ZooError

BODY = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = random.Random(2).randbytes(150_000)
WHOLE = ["model.tar.gz", "model.tar.gz.json"]
PART = ["model.tar.gz.part", "model.tar.gz.part.json"]


def one_line(caught: pytest.ExceptionInfo[ZooError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 3
    return text
