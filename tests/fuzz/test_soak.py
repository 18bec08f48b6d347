"""What the soak says of figures; `python tests/fuzz/soak.py` measures them for hours."""

from __future__ import annotations

import random
from typing import Any
from xml.etree import ElementTree

import pytest
from soak import LIMITS, WARM_UP, plot, report


def rows(**growth_an_hour: float) -> list[dict[str, Any]]:
    """Returns two hours of nights with noise and a peak, in which these figures grow."""
    rng = random.Random(0)
    return [
        {name: 50 + rng.random() + growth_an_hour.get(name, 0) * number / 60 for name in LIMITS}
        | {
            "round": number,
            "hours": number / 60,
            "fault": "full_disk" if number == 50 else None,
            "wrong": None,
        }
        | ({"memory_mib": 500.0} if number in (WARM_UP, 119) else {})
        for number in range(120)
    ]


def test_what_grows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(rows()) == 0
    assert capsys.readouterr().out.startswith("120 nights in 1.98 h, 1 disturbed, 0 lost")
    for name, limit in LIMITS.items():
        assert report(rows(**{name: limit * 1.5})) == 1
        assert report(rows(**{name: limit * 0.5})) == 0
    lost = rows()
    lost[7]["wrong"] = "another result"
    assert report(lost) == 1
    assert "round 7 (None): another result" in capsys.readouterr().out
    ElementTree.fromstring(plot(lost))
