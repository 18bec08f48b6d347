"""The size of an entry's network, stage by stage, compared with what the registry declares."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.model.summary import Summary
    from zoo.registry.schema import Backbone, Entry


@dataclass(frozen=True)
class EntrySummary:
    """The size of a network as built, and as the registry declares it or None."""

    name: str
    summary: Summary
    declared_parameters: int | None
    declared_multiply_adds: int | None

    @property
    def ok(self) -> bool:
        """Whether the network is as large as declared."""
        return all(built == declared for _, built, declared in self._compared() if declared is not None)

    def to_json(self) -> dict[str, Any]:
        """Returns the built size as JSON values."""
        summary = self.summary
        return {
            "input_size": list(summary.input_size),
            "parameters": summary.parameters,
            "multiply_adds": summary.multiply_adds,
            "as_declared": self.ok,
            "stages": [asdict(stage) for stage in summary.stages],
        }

    def __str__(self) -> str:
        lines = []
        for name, built, declared in self._compared():
            verdict = "as declared" if declared == built else f"DIFFERENT from the declared {declared or 0:,}"
            lines.append(f"{name}: {built:,} built, {'none declared' if declared is None else verdict}")
        height, width = self.summary.input_size
        lines.append(f"multiply-adds are those of all convolutions for one image of {height} x {width} px")
        return "\n".join(lines)

    def _compared(self) -> list[tuple[str, int, int | None]]:
        return [
            ("parameters", self.summary.parameters, self.declared_parameters),
            ("multiply-adds", self.summary.multiply_adds, self.declared_multiply_adds),
        ]


def summarize_entry(entry: Entry | Backbone) -> EntrySummary:
    """Builds an entry's network at its published crop, without values, and returns its size.

    Raises:
      UsageError: the network cannot be built.
    """
    from zoo.model.summary import summarize_encoder, summarize_network
    from zoo.network.building import BACKBONE_INPUT_SIZE, BACKBONE_OUTPUT_STRIDE, encoder_settings

    if entry.kind == "backbone":
        settings = encoder_settings(entry, BACKBONE_OUTPUT_STRIDE)
        return EntrySummary(entry.name, summarize_encoder(settings, BACKBONE_INPUT_SIZE), None, None)
    summary = summarize_network(entry.network, entry.evaluation.crop_size)
    return EntrySummary(entry.name, summary, entry.parameters, entry.multiply_adds)
