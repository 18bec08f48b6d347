"""`zoo.entries` and `zoo.published`: the registry as DataFrames."""

from __future__ import annotations

import io
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

import zoo
from zoo.errors import RegistryError, UnknownNameError
from zoo.registry import load_registry
from zoo.registry.frames import csv_text, typed_frame

REGISTRY = load_registry()


def test_entries_are_those_of_the_registry() -> None:
    frame = zoo.entries()
    assert frame.index.name == "name"
    assert frame.index.tolist() == [entry.name for entry in REGISTRY.entries]
    for entry in REGISTRY.entries:
        row = frame.loc[entry.name]
        assert (row["title"], row["dataset"], row["backbone"]) == (
            entry.title,
            entry.dataset,
            entry.network.backbone.name,
        )
        assert (row["input_height"], row["input_width"]) == entry.input_resolution
        assert (row["output_stride"], row["digest"]) == (entry.output_stride, entry.digest())
        assert row["checkpoint"] == entry.checkpoint.url
        for name in ("parameters", "multiply_adds", "config"):
            declared = getattr(entry, name)
            assert pd.isna(row[name]) if declared is None else row[name] == declared
        assert pd.isna(row["saved_model"]) if entry.saved_model is None else row["saved_model"]


def test_entries_have_types() -> None:
    dtypes = {name: str(dtype) for name, dtype in zoo.entries("coco/*").dtypes.items()}
    numbers = ("output_stride", "input_height", "input_width", "parameters", "multiply_adds")
    texts = ("title", "config", "checkpoint", "saved_model", "digest")
    assert dtypes == {
        **dict.fromkeys(("dataset", "backbone"), "category"),
        **dict.fromkeys(numbers, "Int64"),
        **dict.fromkeys(texts, "string"),
    }


def test_published_has_every_claim_with_its_digits() -> None:
    frame = zoo.published()
    claims = [(entry, claim) for entry in REGISTRY.entries for claim in entry.published]
    assert len(frame) == len(claims)
    for row, (entry, claim) in zip(frame.itertuples(), claims, strict=True):
        found = (row.entry, row.dataset, row.metric, row.evaluator, row.decimals, row.source)
        assert found == (
            *(entry.name, entry.dataset, claim.metric, claim.evaluator),
            *(claim.decimals, claim.source),
        )
        assert (Decimal(row.printed), row.value) == (claim.value, float(claim.value))
        assert row.printed == str(claim.value)
        assert row.tolerance == float(claim.tolerance)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        **dict.fromkeys(("entry", "printed", "source"), "string"),
        **dict.fromkeys(("dataset", "metric", "evaluator"), "category"),
        **dict.fromkeys(("value", "tolerance"), "float64"),
        "decimals": "Int64",
    }


def test_entries_and_published_are_selected_as_in_the_list(tmp_path: Path) -> None:
    assert set(zoo.entries("*_os16", dataset="coco")["dataset"]) == {"coco"}
    assert set(zoo.published(backbone="resnet50_beta")["entry"]) == {
        entry.name for entry in REGISTRY.select(backbone="resnet50_beta")
    }
    own = tmp_path / "own.yaml"
    own.write_text(
        "entries:\n  mine/small:\n    extends: coco/resnet50_os32\n    title: Mine\n"
        "    checkpoint: a.tar.gz\n"
    )
    for registry in (own, [own], str(own), load_registry(own)):
        assert zoo.entries("mine/*", registry=registry)["title"].tolist() == ["Mine"]
        # Typed, though nothing was published of it.
        assert zoo.published("mine/*", registry=registry)["tolerance"].dtype == "float64"
    with pytest.raises(UnknownNameError, match="did you mean cityscapes"):
        zoo.entries("cityscape/*")
    own.write_text("entries: 3\n")
    with pytest.raises(RegistryError, match=r"own\.yaml:1"):
        zoo.published(registry=own)


def test_csv_gives_the_frame_again() -> None:
    frame = zoo.entries()
    again = pd.read_csv(io.StringIO(csv_text(frame, index=True)), dtype=dict(frame.dtypes), index_col="name")
    again.index = again.index.astype("string")
    # Each file has categories of its own.
    pd.testing.assert_frame_equal(again, frame)


def test_csv_quotes_texts_and_keeps_them_from_being_formulas() -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", 'a "b", c', "two\nlines", '=HYPERLINK("x")', "a=b", "'x"]
    numbers = [2**53 + 1, None, -1, *range(7)]
    rows = [{"title": text, "number": number} for text, number in zip(texts, numbers, strict=True)]
    frame = typed_frame(rows, {"title": "string", "number": "Int64"})
    text = csv_text(frame)
    assert text.splitlines()[:4] == ['"title","number"', f'"\'=1+1",{2**53 + 1}', '"\'+1",""', '"\'-1",-1']
    again = pd.read_csv(io.StringIO(text), dtype={"title": "string", "number": "Int64"})
    # As the docstring says.
    again["title"] = again["title"].str.replace(r"^'(?=[=+@\t\r-])", "", regex=True)
    pd.testing.assert_frame_equal(again, frame)
    # Names in the index, and a category.
    named = frame.astype({"title": "category"}).set_index("title")
    assert csv_text(named, index=True) == text


def test_pandas_is_loaded_when_a_frame_is_asked_for(tmp_path: Path) -> None:
    script = (
        "import sys, zoo\n"
        "heavy = ('pandas', 'numpy', 'tensorflow')\n"
        "zoo.list_entries(); zoo.entries; zoo.published; zoo.results\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "zoo.published('coco/*'); zoo.results()\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["[]", "['pandas', 'numpy']"]
