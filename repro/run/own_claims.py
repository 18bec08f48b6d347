"""Claims that users make themselves: on the command line, or in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from pydantic import ValidationError

from zoo.errors import UsageError
from zoo.registry.messages import explain_error
from zoo.registry.schema import Claim, PublishedNumbers, Tolerance
from zoo.registry.yaml_file import read
from zoo.repro.records.claim_words import CLAIM_METRICS, CLAIM_ORDER, EVALUATORS

_CLAIM = re.compile(r"(?:(?P<evaluator>\w+)\.)?(?P<metric>\w+)=(?P<value>\d{1,3}(?:\.\d{1,9})?)")


def parse_claim(text: str, evaluators: Sequence[str] = EVALUATORS) -> Claim:
    """Returns the claim that `pq=58.1` or `internal.pq=58.13` stands for, to the decimals that are written.

    Args:
      text: the claim.
      evaluators: whose numbers are measured; a claim that names none is about the first.

    Raises:
      UsageError: it has another form, or is about something else.
    """
    matched = _CLAIM.fullmatch(text.strip().lower())
    evaluator = (matched["evaluator"] or evaluators[0]) if matched else ""
    if not matched or evaluator not in EVALUATORS or matched["metric"] not in CLAIM_METRICS:
        metrics = ", ".join(CLAIM_METRICS)
        raise UsageError(
            f"--claim {text}: expected a metric ({metrics}) and percent as printed, "
            "as pq=58.1 or internal.pq=58.1"
        )
    value = Decimal(matched["value"])
    if value > 100:
        raise UsageError(f"--claim {text}: expected percent, at most 100")
    return Claim(
        metric=matched["metric"],  # type: ignore[arg-type]
        evaluator=evaluator,  # type: ignore[arg-type]
        value=value,
        source="--claim",
        tolerance=Decimal(0),
    )


def read_claims(path: Path) -> list[Claim]:
    """Returns the claims of a YAML or JSON file in the form of a registry's `published:`.

    That is `official:` and `internal:` with `pq`, `pq_things`, `pq_stuff`, `miou` and `ap`, with or without
    `published:` above.

    Raises:
      RegistryError: the file cannot be read, or has another form.
    """
    file = read(path, "a file of claims", "official or internal")
    is_below = file.content.keys() == {"published"} and isinstance(file.content["published"], dict)
    content = file.content["published"] if is_below else file.content
    above = ("published",) if is_below else ()
    try:
        published = PublishedNumbers.model_validate({"source": str(path), **content})
    except ValidationError as error:
        key, message = explain_error(PublishedNumbers, error.errors(include_url=False)[0])
        raise file.error((*above, *key), message) from None
    found = list(published.claims(Tolerance()))
    if not found:
        raise file.error(above, "expected numbers under official or internal, found none")
    return found


def joined_claims(claims: Iterable[Claim]) -> list[Claim]:
    """Returns the claims, official ones first; raises a UsageError where two are about one number."""
    found: dict[tuple[str, str], Claim] = {}
    for claim in claims:
        key = claim.evaluator, claim.metric
        if key in found:
            raise UsageError(
                f"{'.'.join(key)}: expected one claim, found {found[key].value} and {claim.value}"
            )
        found[key] = claim
    return [found[key] for key in CLAIM_ORDER if key in found]
