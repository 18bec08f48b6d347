"""The order of entries on a cluster."""

from __future__ import annotations

from pathlib import Path

from zoo.files.json_files import write_json
from zoo.registry import load_registry
from zoo.repro.nights.order import longest_first
from zoo.repro.records.night_folder import record_path


def test_the_longest_first_by_the_last_record_or_multiply_adds(tmp_path: Path) -> None:
    registry = load_registry()
    names = ["coco/resnet50_os32", "cityscapes/resnet50_os32", "cityscapes/wide_resnet41_os16"]
    entries = [registry.resolve(name) for name in names]
    tonight = tmp_path / "2026-11-25"

    def order() -> list[str]:
        return [entry.name for entry in longest_first(entries, registry, tonight)]

    # Ten times the images, at a seventh of the work for each.
    tonight.mkdir()
    assert order() == [names[2], names[0], names[1]]

    def measured(name: str, seconds: float) -> None:
        record = {
            "schema": 1,
            "entry": name,
            "images": 30,
            "images_in_dataset": 30,
            "metrics": {},
            "claims": [],
        }
        path = record_path(tmp_path / "2026-11-24", name)
        write_json(path, {**record, "efficiency": {"seconds_per_image": seconds}})

    measured(names[0], 0.5)
    measured(names[1], 7.0)
    # 2,500 s and 3,500 s; the third at the rate of the two.
    assert order() == [names[2], names[1], names[0]]
    measured(names[2], 1.0)
    assert order() == [names[1], names[0], names[2]]
    record_path(tmp_path / "2026-11-24", names[1]).write_text("damaged")
    assert order()[-1] == names[2]
