"""Predictions of the bundled images without a network: their ground truth, with scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from zoo.fetch.fetcher import Fetcher
from zoo.model.postprocess.instances import Instances
from zoo.prediction.prediction import Prediction
from zoo.registry import load_registry
from zoo.repro.datasets.opening import open_dataset


@pytest.fixture(scope="session")
def predict_truth(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Prediction]:
    """Returns a function that makes a prediction of an image of a bundled data set: what is true."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        datasets = {
            name: open_dataset(load_registry().dataset(name), None, Fetcher())
            for name in ("minicity", "minicoco")
        }

    def predict(name: str, index: int) -> Prediction:
        sample, info = datasets[name].load(index), datasets[name].info
        labels, first, areas = np.unique(sample.panoptic, return_index=True, return_counts=True)
        is_thing = np.isin(labels // info.label_divisor, info.thing_class_ids) & (
            labels % info.label_divisor > 0
        )
        things = np.flatnonzero(is_thing)[np.argsort(first[is_thing])]
        # Of float32: such as 0.1 that is not 0.1.
        score = (labels[things] % 97 / np.float32(97)).astype(np.float32)
        scored = Instances(labels[things].astype(np.int32), areas[things], score, score, score)
        semantic = np.where(sample.semantic < info.num_classes, sample.semantic, 0).astype(np.uint8)
        return Prediction(sample.panoptic, semantic, scored, info, sample.image, sample.image_id)

    return predict


@pytest.fixture
def city(predict_truth: Callable[[str, int], Prediction]) -> Prediction:
    return predict_truth("minicity", 1)


@pytest.fixture
def coco(predict_truth: Callable[[str, int], Prediction]) -> Prediction:
    return predict_truth("minicoco", 1)
