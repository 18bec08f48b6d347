"""What `zoo export` writes into a file about itself, for people and for programs that know nothing of us."""

from __future__ import annotations

from dataclasses import asdict
from importlib import metadata

from zoo.model.families import family_of
from zoo.model.preprocess import MEAN_PIXEL
from zoo.registry import Entry
from zoo.registry.dataset_info import DatasetInfo
from zoo.runtimes.model_file import About, CheckpointRecord

_UPSTREAM = "google-research/deeplab2"
_UPSTREAM_BUCKET = "/gresearch/tf-deeplab/"

_WHOLE_MAPS = {
    "panoptic_pred": "class * `label_divisor` + number of the instance; at the picture's size",
    "semantic_pred": "class of each pixel",
    "instance_pred": "1 + number of the center of a pixel of a thing, 0 elsewhere",
    "instance_scores": "value of that center",
    "instance_center_pred": "values of the centers at their pixels, 0 elsewhere",
    "semantic_probs": "probability of each class",
    "center_heatmap": "1 at the center of an instance",
    "offset_map": "(y, x) from a pixel to the center of its instance, in pixels of the network's input",
    "semantic_logits": "scores of the classes before softmax, at the size of the network's input",
}

_PREPROCESSING = (
    "Decode the picture to RGB, 8 bits, 0 to 255.",
    "Resize it by one factor for both sides, bilinear with aligned corners, in float32: see `resize`. A "
    "picture that fits the input is not resized where `min_resize_value` is 0.",
    "Pad it at the bottom and at the right to the input's size with `padding_value`.",
    "Give it as float32, [1, height, width, 3]; the file normalises it itself.",
)


def describe(
    entry: Entry,
    classes: DatasetInfo,
    checkpoint: CheckpointRecord,
    precision: str,
    input_size: tuple[int, int],
    *,
    with_post_processing: bool = False,
) -> About:
    """Returns what the file of an entry's network says of itself."""
    family = family_of(entry)
    evaluation = entry.evaluation
    return About.model_validate(
        {
            "entry": entry.name,
            "entry_digest": entry.digest(),
            "checkpoint": checkpoint,
            "precision": precision,
            "input_size": input_size,
            "title": entry.title,
            "licence": _licence(checkpoint.url),
            "with_post_processing": with_post_processing,
            "input": {
                "name": "input_tensor" if with_post_processing else "images",
                "shape": [None, None, 3] if with_post_processing else [1, *input_size, 3],
                "type": "uint8" if with_post_processing else "float32",
                "values": "RGB, 0 to 255, height before width",
            },
            "outputs": _WHOLE_MAPS if with_post_processing else dict(family.maps),
            "preprocessing": {
                "done_inside": with_post_processing,
                "steps": _PREPROCESSING,
                "resize": {
                    "input_size": input_size,
                    "min_resize_value": evaluation.min_resize_value,
                    "max_resize_value": evaluation.max_resize_value,
                },
                "padding_value": MEAN_PIXEL,
            },
            "classes": [
                {
                    "class": class_id,
                    "name": classes.class_names[class_id],
                    "original_id": classes.original_ids[class_id],
                    "is_thing": class_id in classes.thing_class_ids,
                }
                for class_id in range(classes.num_classes)
            ],
            "post_processing": {
                "done_inside": with_post_processing,
                "steps": family.steps,
                **asdict(family.options.from_entry(entry.evaluation, classes)),
            },
            "written_by": {name: metadata.version(name) for name in ("panoptic-zoo", "tensorflow", "keras")},
        }
    )


def _licence(url: str) -> str:
    if _UPSTREAM_BUCKET in url:
        return (
            f"Apache-2.0, as {_UPSTREAM}, which published the checkpoint; mind the terms of its training data"
        )
    if url.startswith("package:"):
        return "Apache-2.0"
    return f"that of the checkpoint, {url}"
