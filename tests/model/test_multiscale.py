from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from zoo.errors import UsageError
from zoo.model.build import build_network
from zoo.model.layers import scale_size
from zoo.model.multiscale import MultiScaleNetwork
from zoo.registry import load_registry


@pytest.fixture(scope="module")
def network() -> Any:
    tf.keras.utils.set_random_seed(3)
    settings = load_registry().resolve("minicity/mobilenet_v3_small_os16").network
    return build_network(settings, (49, 65), aspp_window=(3, 4))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 49, 65, 3)).astype(np.uint8)


def test_one_scale_is_the_network_up_sampled(network: Any, image: np.ndarray) -> None:
    maps = MultiScaleNetwork(network)(image)
    plain = network(image)

    def resized(values: tf.Tensor) -> tf.Tensor:
        return tf.compat.v1.image.resize_bilinear(values, (49, 65), align_corners=True)

    np.testing.assert_allclose(
        maps["semantic_probs"], tf.nn.softmax(resized(plain["semantic_logits"])), atol=1e-6
    )
    np.testing.assert_allclose(maps["center_heatmap"], resized(plain["center_heatmap"]), atol=1e-6)
    # 13 x 17 positions become 49 x 65 pixels: 4 pixels for each position.
    np.testing.assert_allclose(maps["offset_map"], resized(plain["offset_map"]) * 4, atol=1e-6)


def test_mirrored_image_gives_mirrored_maps(network: Any, image: np.ndarray) -> None:
    averaged = MultiScaleNetwork(network, scales=(0.75,), flip=True)

    maps, mirrored = averaged(image), averaged(np.ascontiguousarray(image[:, :, ::-1]))

    for name in ("semantic_probs", "center_heatmap"):
        np.testing.assert_allclose(mirrored[name], maps[name][:, :, ::-1], atol=1e-5)
    np.testing.assert_allclose(mirrored["offset_map"], maps["offset_map"][:, :, ::-1] * (1, -1), atol=1e-5)


def test_works_inside_a_graph_and_for_any_batch(network: Any, image: np.ndarray) -> None:
    averaged = MultiScaleNetwork(network, scales=(1.0, 1.25))
    images = np.concatenate([image, image[:, ::-1]])

    together = tf.function(averaged, input_signature=[tf.TensorSpec((2, 49, 65, 3), tf.uint8)])(images)

    for index in (0, 1):
        alone = averaged(images[index : index + 1])
        for name, values in alone.items():
            np.testing.assert_allclose(together[name][index], values[0], atol=1e-5)


def test_all_scales_share_the_variables(network: Any) -> None:
    averaged = MultiScaleNetwork(network, scales=(0.5, 1.0, 2.0))

    used = {id(v) for scaled in averaged._scaled_networks for v in scaled.weights}

    assert used == {id(v) for v in network.weights}


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,)])
def test_scales_that_make_no_sense(network: Any, scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="scales: expected at least one, all positive"):
        MultiScaleNetwork(network, scales)


def test_scaled_sizes_keep_corners_on_corners() -> None:
    assert scale_size((1025, 2049), 0.5) == (513, 1025)
    assert scale_size((65, 129), 1.25) == (81, 161)
    assert scale_size((1025, 2049), 1 / 32) == (33, 65)
