"""Claims on the command line and in files, to the decimals that are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import RegistryError, UsageError
from zoo.repro.run.own_claims import joined_claims, parse_claim, read_claims


def test_a_claim_is_about_the_official_number_to_the_decimals_written() -> None:
    claim = parse_claim("pq=58.10")
    assert (claim.metric, claim.evaluator, str(claim.value), claim.decimals) == ("pq", "official", "58.10", 2)
    assert parse_claim("internal.miou=70").evaluator == "internal"
    assert parse_claim("ap=1.5", ("internal",)).evaluator == "internal"
    assert parse_claim("pq_stuff=44.9").metric == "pq_stuff"


@pytest.mark.parametrize(
    "text", ["pq", "pq=", "pq=abc", "sq=50.0", "mine.pq=50", "server.pq=50", "pq=-1", "pq=1e1", "pq=100.1"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--claim {text}: expected"):
        parse_claim(text)


def test_one_number_has_one_claim() -> None:
    claims = [parse_claim(text) for text in ("internal.pq=1.0", "ap=2.0", "pq=3.0")]
    assert [claim.value for claim in joined_claims(claims)] == [
        claims[2].value,
        claims[1].value,
        claims[0].value,
    ]
    with pytest.raises(UsageError, match=r"official\.pq: expected one claim, found 3.0 and 4"):
        joined_claims([*claims, parse_claim("pq=4")])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("claims.yaml", "official: {ap: 36, pq: 58.10}\ninternal: {miou: 70.25}\n"),
        ("claims.json", '{"published": {"official": {"pq": 58.10, "ap": 36}, "internal": {"miou": 70.25}}}'),
    ],
)
def test_files_have_the_form_of_a_registry(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    claims = read_claims(tmp_path / name)
    found = [(claim.evaluator, claim.metric, str(claim.value)) for claim in claims]
    assert found == [("official", "pq", "58.10"), ("official", "ap", "36"), ("internal", "miou", "70.25")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("official: {pq: high}", ":1: official.pq: expected a number, found 'high'"),
        ("official: {pq: 58.1}\nofficial: {pq: 1}", "appears twice"),
        ("pq: 58.1", "pq"),
        ("official: {}", "expected numbers under official or internal, found none"),
        ("[1]", "expected a mapping with official or internal, found [1]"),
        ("", "expected a mapping with official or internal, found nothing"),
    ],
)
def test_a_fault_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RegistryError) as caught:
        read_claims(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
