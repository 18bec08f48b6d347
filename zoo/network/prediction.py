"""One call from an image to its panoptic map, with what the registry knows of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.model.postprocess.options import PostprocessOptions
    from zoo.model.predict import PanopticPrediction
    from zoo.registry import Entry
    from zoo.registry.dataset_info import DatasetInfo

# Under this name a network keeps what it has compiled.
_PREDICTOR = "_panoptic_predictor"


def predict_panoptic(
    network: Any, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> PanopticPrediction:
    """Predicts the panoptic map of one image; `network.predict_panoptic(image)` is the same.

    The image is prepared as the published numbers were measured. For Cityscapes it is padded with the mean
    pixel, bottom and right: to the network's input size where it fits, and else to the next size
    `k * output_stride + 1`; the pooling window of ASPP stays the published one and slides over what is
    larger. For COCO it is resized to fit the network's input, and the prediction back. Thing classes,
    thresholds and areas are those of the network's entry. What is returned has the size of the image.

    The first image of each padded size compiles a graph, which takes seconds. With `optimize=True` in
    `zoo.load` the maps equal those that `zoo reproduce` scores, pixel for pixel.

    Args:
      network: from `zoo.load` or `zoo.build`.
      image: [H, W, 3], RGB 0..255, uint8 or of floating point, of any size.
      scales: factors of the image size whose predictions are averaged.
      flip: whether to average with the predictions for the mirrored image too.

    Raises:
      UsageError: something that is no image of values 0..255, or a network without an entry whose classes
        are known.
    """
    from zoo.network.saved_model import SavedModelNetwork

    if isinstance(network, SavedModelNetwork):
        return network.predict_panoptic(image, scales=scales, flip=flip)
    predictor = vars(network).get(_PREDICTOR)
    if predictor is None:
        from zoo.model.predict import PanopticPredictor

        entry = _entry_of(network)
        predictor = PanopticPredictor(
            network,
            classes_of(entry),
            postprocess_options(entry),
            entry.output_stride,
            resizes=any(entry.evaluation.min_resize_value),
        )
        # Not as an attribute: Keras would look for layers in it.
        vars(network)[_PREDICTOR] = predictor
    prediction: PanopticPrediction = predictor(image, scales=scales, flip=flip)
    return prediction


def classes_of(entry: Entry) -> DatasetInfo:
    """Returns the classes that an entry's network predicts.

    Raises:
      UsageError: they are not known, or not as many as the network has outputs.
    """
    from zoo.registry.formats import classes_by_upstream_name

    known = classes_by_upstream_name()
    classes = known.get(entry.evaluation.dataset)
    if classes is None:
        raise UsageError(
            f"{entry.name}: predict_panoptic: expected the classes of {' or '.join(known)}, found "
            f"{entry.evaluation.dataset}, which is not supported yet; `network(images)` gives its maps"
        )
    outputs = entry.network.semantic_head.output_channels
    if outputs != classes.num_classes:
        raise UsageError(
            f"{entry.name}: predict_panoptic: expected {classes.num_classes} classes, as "
            f"{entry.evaluation.dataset} has, found {outputs} output_channels of the semantic head"
        )
    return classes


def postprocess_options(entry: Entry) -> PostprocessOptions:
    """Returns how an entry's maps are post-processed where its published numbers are measured.

    Raises:
      UsageError: its classes are not known.
    """
    from zoo.model.postprocess.options import PostprocessOptions

    return PostprocessOptions.from_entry(entry.evaluation, classes_of(entry))


def _entry_of(network: Any) -> Entry:
    entry: Entry | None = getattr(network, "entry", None)
    if entry is None:
        raise UsageError(
            "predict_panoptic: expected a network with a registry entry, found none; "
            "make it with zoo.load or zoo.build"
        )
    return entry
