"""The internal metrics of a run, from per-image statistics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.metrics.boundary import BoundaryQuality, dilation_ratio
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.overlap import label_overlaps, relabelled
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.segments import ImageSegments, OfficialTruth
from zoo.repro.datasets.predictions import EVERYTHING
from zoo.repro.records.record import finite
from zoo.repro.records.statistics import image_quality, part_of

if TYPE_CHECKING:
    from zoo.metrics.overlap import LabelOverlaps
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.datasets.dataset import Sample
    from zoo.repro.datasets.predicted_instances import ScoredMask
    from zoo.repro.datasets.predictions import ScoredInstances

# Names of the parts of an image's statistics that no internal metric needs.
SEGMENTS = "segments"
OFFICIAL_MIOU = "official_miou"
BOUNDARY = "boundary"

# From what each metric is measured; all others are from the panoptic map.
_PART_OF = {"pq": "panoptic", "miou": "semantic", "iou": "semantic", "ap": "instances"}
_PART_OF |= {"boundary_iou": "semantic"}


@dataclass(frozen=True)
class InternalResult:
    """Internal numbers of a run, unrounded."""

    # `pq`, `sq`, `rq`, `miou`, `ap`, `boundary_pq`, `boundary_iou` in percent, as far as they are measured;
    # NaN where no class occurs.
    metrics: dict[str, float]
    # Metric -> class name -> value: `pq`, `sq`, `rq` and `iou` in percent, or None where the class does not
    # occur; segments `tp`, `fp`, `fn`; `matched_iou`, the sum of the IoU of `tp`.
    per_class: dict[str, dict[str, float | None]]
    ap12: dict[str, float | None]  # averages of mask AP and AR in percent, or None where there is nothing
    # Mean IoU in percent over the classes that are scored, with a ground truth in which crowd regions keep
    # their class; None where the data hold none.
    official_miou: float | None
    official_iou: dict[str, float | None]  # class name -> IoU of the same, or None where it does not occur


class InternalScores:
    """PQ, mIoU and mask AP as sums over images: `measure` makes one image's summand, `add` adds it.

    Only what predictions hold is measured; the sums of what they do not hold stay empty.
    """

    def __init__(
        self, info: DatasetInfo, holds: Collection[str] = EVERYTHING, *, boundary: bool = False
    ) -> None:
        """Takes the classes, what of `EVERYTHING` predictions hold, and whether boundary quality is measured.

        Boundary quality needs a panoptic or a semantic map.
        """
        self._info = info
        self._boundary = boundary and bool({"panoptic", "semantic"} & set(holds))
        self._holds = frozenset(holds)
        self._metrics: dict[str, Any] = self._fresh()
        self._things: dict[int, MaskAP] = {}  # by position of the image
        self._official_miou = MeanIoU(info.num_classes, info.ignore_label)

    def _fresh(self) -> dict[str, Any]:
        info = self._info
        further: dict[str, Any] = {}
        if self._boundary:
            ratio = dilation_ratio(info.name)
            further[BOUNDARY] = BoundaryQuality(
                info.num_classes, info.ignore_label, info.label_divisor, ratio
            )
        return {
            "pq": PanopticQuality(info.num_classes, info.ignore_label, info.label_divisor),
            "miou": MeanIoU(info.num_classes, info.ignore_label),
            "ap": MaskAP(
                num_classes=info.num_classes,
                ignore_label=info.ignore_label,
                label_divisor=info.label_divisor,
                thing_class_ids=info.thing_class_ids,
            ),
            **further,
        }

    def measure(
        self,
        sample: Sample,
        panoptic: np.ndarray | None,
        semantic: np.ndarray | None,
        instances: ScoredInstances | Sequence[ScoredMask] | None,
    ) -> dict[str, np.ndarray]:
        """Returns one image's statistics: `<metric>/<array>` for each metric's state.

        Where the sample has official ground truth there are also `segments/<array>`, the arrays of
        `ImageSegments`, and `official_miou/<array>`, a `MeanIoU` whose ground truth includes crowd regions.

        Args:
          sample: the image's ground truth.
          panoptic: `[H, W]` int32, the predicted panoptic map; None, as the others, where there is none.
          semantic: `[H, W]` integer, the semantic head's class per pixel; None takes the panoptic map's,
            where the predictions hold a semantic part.
          instances: the things of the panoptic map with their scores, or instances with masks of their own.
        """
        metrics, overlaps, of_truth = self._fresh(), None, None
        truth, crowds, divisor = sample.official, sample.crowd_labels, self._info.label_divisor
        if panoptic is not None:
            of_truth = None if truth is None else label_overlaps(truth.segment_map, panoptic)
            if of_truth is None or sample.segment_labels is None:
                overlaps = label_overlaps(sample.panoptic, panoptic)
            else:
                overlaps = relabelled(of_truth, sample.segment_labels)
            metrics["pq"].update(overlaps)
            if instances is not None and not isinstance(instances, Sequence):
                metrics["ap"].update(overlaps, instances.labels, instances.score, crowd_labels=crowds)
            if semantic is None and "semantic" in self._holds:
                if self._boundary or sample.segment_labels is None:
                    semantic = (panoptic // divisor).astype(np.uint8)
                else:
                    metrics["miou"].update_overlaps(overlaps, overlaps.gt_labels // divisor, divisor)
        if semantic is not None:
            metrics["miou"].update(sample.semantic, semantic)
        if isinstance(instances, Sequence):
            class_ids, scores, masks = zip(*instances, strict=True) if instances else ((), (), ())
            metrics["ap"].update_masks(sample.panoptic, masks, class_ids, scores, crowd_labels=crowds)
        if self._boundary and semantic is not None:
            found = np.full(semantic.shape, self._info.void_label, np.int32) if panoptic is None else panoptic
            metrics[BOUNDARY].update(truth or self._truth_of(sample), found, semantic)
        parts = {name: metric.to_arrays() for name, metric in metrics.items()}
        if truth is not None:
            parts |= self._official_parts(truth, of_truth, semantic)
        return {f"{name}/{key}": array for name, arrays in parts.items() for key, array in arrays.items()}

    def _truth_of(self, sample: Sample) -> OfficialTruth:
        divisor, void = self._info.label_divisor, self._info.ignore_label
        return OfficialTruth.of_panoptic(sample.panoptic, label_divisor=divisor, ignore_label=void)

    def _official_parts(
        self, truth: OfficialTruth, overlaps: LabelOverlaps | None, semantic: np.ndarray | None
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns what reports need to apply the official scripts' rules, or parts of them, later.

        `overlaps` are those of the truth's segments; they give the mean IoU where there is no semantic map.
        """
        info, parts = self._info, {}
        if overlaps is not None:
            segments = ImageSegments.of_overlaps(
                truth, overlaps, label_divisor=info.label_divisor, ignore_label=info.ignore_label
            )
            parts[SEGMENTS] = segments.to_arrays()
        miou = MeanIoU(info.num_classes, info.ignore_label)
        if semantic is not None:
            miou.update(truth.semantic(info.ignore_label), semantic)
        elif overlaps is not None and "semantic" in self._holds:
            classes = np.append(truth.class_ids, info.ignore_label)[overlaps.gt_labels]
            miou.update_overlaps(overlaps, classes, info.label_divisor)
        else:
            return parts
        parts[OFFICIAL_MIOU] = miou.to_arrays()
        return parts

    def add(self, arrays: Mapping[str, np.ndarray], position: int | None = None) -> None:
        """Adds what `measure` returned for the image at a position, by default the next one.

        In whatever order images come, detections of equal score count in the order of their positions.
        """
        for name, metric in {**self._metrics, OFFICIAL_MIOU: self._official_miou}.items():
            part = part_of(arrays, name)
            if name == "ap":
                self._things[len(self._things) if position is None else position] = metric.from_arrays(part)
            elif part or name != OFFICIAL_MIOU:
                metric.merge(metric.from_arrays(part))

    def quality(self, arrays: Mapping[str, np.ndarray]) -> float:
        """Returns one image's PQ in percent, or its mean IoU where PQ is not measured; NaN for nothing."""
        if "panoptic" in self._holds or "semantic" not in self._holds:
            return image_quality(arrays)
        return MeanIoU.from_arrays(part_of(arrays, "miou")).compute().miou

    def so_far(self) -> dict[str, float]:
        """Returns PQ and mIoU of the images added up to now, in percent, as far as they are measured."""
        found = {"pq": self._metrics["pq"].compute().pq, "miou": self._metrics["miou"].compute().miou}
        return {name: value for name, value in found.items() if _PART_OF[name] in self._holds}

    def compute(self) -> InternalResult:
        """Returns all numbers of the images added up to now."""

        def per_class(values: np.ndarray) -> dict[str, Any]:
            return dict(zip(self._info.class_names, values.tolist(), strict=True))

        quality = self._metrics["pq"].compute(thing_class_ids=self._info.thing_class_ids)
        iou = self._metrics["miou"].compute()
        things = self._fresh()["ap"]
        for position in sorted(self._things):
            things.merge(self._things[position])
        ap = things.compute()
        official_iou = self._official_miou.compute().iou_per_class.copy()
        if self._info.ignore_label < self._info.num_classes:
            official_iou[self._info.ignore_label] = np.nan
        occurs = ~np.isnan(official_iou)
        metrics = {"pq": quality.pq, "sq": quality.sq, "rq": quality.rq, "miou": iou.miou, "ap": ap.ap}
        values: dict[str, dict[str, float | None]] = {
            "pq": finite(per_class(quality.pq_per_class)),
            "sq": finite(per_class(quality.sq_per_class)),
            "rq": finite(per_class(quality.rq_per_class)),
            "tp": per_class(quality.tp),
            "fp": per_class(quality.fp),
            "fn": per_class(quality.fn),
            "matched_iou": per_class(quality.iou),
            "iou": finite(per_class(iou.iou_per_class)),
        }
        if self._boundary:
            boundary = self._metrics[BOUNDARY].compute(thing_class_ids=self._info.thing_class_ids)
            metrics |= {"boundary_pq": boundary.quality.pq, "boundary_iou": boundary.miou}
            values["boundary_pq"] = finite(per_class(boundary.quality.pq_per_class))
            values["boundary_iou"] = finite(per_class(boundary.iou_per_class))
        held = self._holds
        return InternalResult(
            metrics={
                name: value for name, value in metrics.items() if _PART_OF.get(name, "panoptic") in held
            },
            per_class={name: each for name, each in values.items() if _PART_OF.get(name, "panoptic") in held},
            ap12=finite(asdict(ap.means)) if "instances" in held else {},
            official_miou=float(official_iou[occurs].mean()) if occurs.any() else None,
            official_iou=finite(per_class(official_iou)),
        )
