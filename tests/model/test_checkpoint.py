"""Checkpoints of the published form, written by plain TensorFlow, whole and damaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.errors import CheckpointError
from zoo.model.build import build_encoder, build_network
from zoo.model.checkpoint import Receipt, restore, variables
from zoo.registry import load_registry

NAME = "minicity/mobilenet_v3_small_os16"
KERNEL = "semantic_decoder/_aspp/_conv_bn_act/_conv/kernel"
Values = dict[str, np.ndarray]


def settings_of(name: str) -> Any:
    return load_registry().resolve(name).network


def network_of(name: str, **changes: Any) -> keras.Model:
    return build_network(settings_of(name).model_copy(update=changes), (33, 33))


@pytest.fixture(scope="module")
def shared_network() -> keras.Model:
    return network_of(NAME)


@pytest.fixture
def network(shared_network: keras.Model) -> keras.Model:
    """The network, with values that no checkpoint here holds."""
    for weight in shared_network.weights:
        weight.assign(tf.fill(weight.shape, -1.0))
    return shared_network


@pytest.fixture(scope="module")
def values(shared_network: keras.Model) -> Values:
    """Values for every variable of the network, by key."""
    return values_of(shared_network)


def values_of(network: keras.Model) -> Values:
    rng = np.random.default_rng(0)
    return {
        key: rng.uniform(0.5, 1.5, tuple(variable.shape)).astype(np.float32)
        for key, variable in variables(network).items()
    }


def write(prefix: Path, values: Mapping[str, np.ndarray], optimizer: bool = False) -> str:
    """Writes an object checkpoint with these keys, as a training loop would."""
    root = tf.train.Checkpoint()
    trainable = []
    for key, value in values.items():
        *parents, leaf = key.split("/")
        node = root
        for name in parents:
            if not hasattr(node, name):
                setattr(node, name, tf.Module())
            node = getattr(node, name)
        variable = tf.Variable(value)
        setattr(node, leaf, variable)
        trainable.append(variable)
    if optimizer:
        root.optimizer = tf.compat.v1.train.AdamOptimizer(0.1)
        root.optimizer.apply_gradients([(tf.ones_like(v), v) for v in trainable[:3]])
        for variable, value in zip(trainable[:3], values.values(), strict=False):
            variable.assign(value)
        root.optimizer._zeros_slot(trainable[0], "average", "average")  # As averaging optimizers do.
        root.global_step = tf.Variable(60000, dtype=tf.int64)
    return root.write(str(prefix)) if not optimizer else root.save(str(prefix))


def refusal(network: keras.Model, prefix: str) -> str:
    """The message of the error, which leaves the network as it was."""
    before = [weight.numpy() for weight in network.weights]
    with pytest.raises(CheckpointError) as caught:
        restore(network, prefix)
    for weight, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    message = str(caught.value)
    assert "\n" not in message
    assert prefix in message
    return message


class TestWholeCheckpoint:
    @pytest.mark.parametrize("prefix", ["ckpt-60000", "model", "best/ckpt.1"])
    def test_every_variable_is_restored(
        self, tmp_path: Path, network: keras.Model, values: Values, prefix: str
    ) -> None:
        (tmp_path / prefix).parent.mkdir(exist_ok=True)
        receipt = restore(network, write(tmp_path / prefix, values))

        assert receipt.ok
        assert receipt.restored == tuple(sorted(values))
        assert receipt.bytes == sum(value.nbytes for value in values.values())
        assert (receipt.missing, receipt.unused, receipt.different_shape) == ((), (), ())
        for key, variable in variables(network).items():
            np.testing.assert_array_equal(variable, values[key])

    def test_optimizer_and_counters_are_listed_apart(
        self, tmp_path: Path, network: keras.Model, values: Values
    ) -> None:
        receipt = restore(network, write(tmp_path / "ckpt", values, optimizer=True))

        first = next(iter(values))
        assert receipt.ok
        assert set(receipt.counters) == {"global_step", "save_counter"}
        assert {f"{first}/.OPTIMIZER_SLOT/optimizer/m", "optimizer/beta1_power"} <= set(receipt.optimizer)
        assert len(receipt.optimizer) == 2 * 3 + 2
        assert receipt.moving_averages == (f"{first}/.OPTIMIZER_SLOT/optimizer/average",)
        assert receipt.unused == ()

    def test_digest_is_of_the_values_not_of_the_files(
        self, tmp_path: Path, network: keras.Model, values: Values
    ) -> None:
        other = {**values, KERNEL: values[KERNEL] + 1}

        first = restore(network, write(tmp_path / "a", values)).sha256
        again = restore(network, write(tmp_path / "b", dict(reversed(values.items())), optimizer=True)).sha256
        changed = restore(network, write(tmp_path / "c", other)).sha256

        assert first == again
        assert first != changed
        assert re.fullmatch("[0-9a-f]{64}", first or "")

    def test_what_the_network_lacks_is_unused(
        self, tmp_path: Path, network: keras.Model, values: Values
    ) -> None:
        prefix = write(tmp_path / "ckpt", {**values, "depth_head/_conv/kernel": np.ones(3, np.float32)})

        receipt = restore(network, prefix)

        assert receipt.ok
        assert receipt.unused == ("depth_head/_conv/kernel",)

    def test_encoder_alone_from_either_trainer(self, tmp_path: Path, values: Values) -> None:
        ours = {key: value for key, value in values.items() if key.startswith("encoder/")}
        theirs = {key.replace("encoder/", "backbone/_encoder/", 1): value for key, value in ours.items()}
        theirs["backbone/_head/kernel"] = np.ones((3, 1000), np.float32)

        for name, stored in (("ours", ours), ("theirs", theirs)):
            encoder = build_encoder(settings_of(NAME), (33, 33))
            receipt = restore(encoder, write(tmp_path / name, stored))
            assert receipt.restored == tuple(sorted(ours))
            assert receipt.unused == (() if name == "ours" else ("backbone/_head/kernel",))
            for key, variable in variables(encoder).items():
                np.testing.assert_array_equal(variable, values[key])

    def test_receipt_as_text_and_json(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        receipt = restore(network, write(tmp_path / "ckpt", values, optimizer=True))

        record = receipt.to_json()
        assert record["ok"] is True
        assert record["restored"] == receipt.restored
        assert f"restored {len(values)} variables" in str(receipt)
        assert "complete" in str(receipt)
        assert not Receipt(prefix="nothing read").ok


class TestRefusedCheckpoint:
    def test_one_variable_removed(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        stored = {key: value for key, value in values.items() if key != KERNEL}

        message = refusal(network, write(tmp_path / "ckpt", stored))

        assert f"1 missing ({KERNEL})" in message

    def test_one_variable_renamed(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        renamed = KERNEL.replace("_conv_bn_act", "_convolution")
        stored = {renamed if key == KERNEL else key: value for key, value in values.items()}

        message = refusal(network, write(tmp_path / "ckpt", stored))

        assert f"1 missing ({KERNEL}); 1 unused ({renamed}). Was {KERNEL} renamed to {renamed}?" in message

    def test_one_variable_reshaped(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        stored = {**values, KERNEL: values[KERNEL][..., :-1]}

        message = refusal(network, write(tmp_path / "ckpt", stored))

        assert f"1 of another shape ({KERNEL}: expected 1x1x576x64, found 1x1x576x63)" in message

    def test_another_number_type(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        stored = {**values, KERNEL: values[KERNEL].astype(np.float64)}

        message = refusal(network, write(tmp_path / "ckpt", stored))

        assert f"variable {KERNEL} is float64, expected float32" in message

    def test_encoder_only(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        stored = {key: value for key, value in values.items() if key.startswith("encoder/")}

        message = refusal(network, write(tmp_path / "ckpt", stored))

        assert message.endswith("as ImageNet checkpoints do; expected a trained Panoptic-DeepLab checkpoint.")
        assert re.search(r"\d+ missing \(.*, and \d+ more\)", message)

    def test_another_backbone(self, tmp_path: Path, values: Values) -> None:
        message = refusal(network_of("cityscapes/mobilenet_v3_large_os16"), write(tmp_path / "ckpt", values))

        assert message.endswith("Its encoder is MobileNetV3-Small: choose the entry of that backbone.")

    @pytest.mark.parametrize("kind", ["block_output", "depthwise_output"])
    def test_the_other_kind_of_end_points(self, tmp_path: Path, kind: str) -> None:
        settings = settings_of(NAME)
        backbones = {
            k: settings.backbone.model_copy(update={"low_level_endpoints": k})
            for k in ("block_output", "depthwise_output")
        }
        stored = values_of(network_of(NAME, backbone=backbones.pop(kind)))

        message = refusal(
            network_of(NAME, backbone=next(iter(backbones.values()))), write(tmp_path / "ckpt", stored)
        )

        assert "2 of another shape" in message
        assert message.endswith(
            f"It was trained with the other kind of end points (low_level_endpoints: {kind})."
        )

    def test_another_number_of_classes(self, tmp_path: Path, values: Values) -> None:
        head = settings_of(NAME).semantic_head.model_copy(update={"output_channels": 134})

        message = refusal(network_of(NAME, semantic_head=head), write(tmp_path / "ckpt", values))

        assert message.endswith("It was trained for 19 classes, the network has 134.")

    def test_of_another_family(self, tmp_path: Path, network: keras.Model) -> None:
        message = refusal(network, write(tmp_path / "ckpt", {"dense/kernel": np.ones((2, 2), "f")}))

        assert "no variables under encoder/" in message


class TestDamagedFiles:
    @staticmethod
    def damaged(prefix: str, suffix: str, change: Callable[[bytearray], Any]) -> None:
        path = Path(prefix + suffix)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    def test_one_bit_flipped(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        prefix = write(tmp_path / "ckpt", values)

        def flip(content: bytearray) -> None:
            content[content.index(values[KERNEL].tobytes()[:64]) + 40] ^= 16

        self.damaged(prefix, ".data-00000-of-00001", flip)

        with pytest.raises(CheckpointError) as caught:
            restore(network, prefix)
        message = str(caught.value)
        assert f"variable {KERNEL} in {prefix}.data-00000-of-00001 is corrupt" in message
        assert "fetch the archive again" in message
        assert "\n" not in message

    def test_data_cut_off(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        prefix = write(tmp_path / "ckpt", values)
        self.damaged(prefix, ".data-00000-of-00001", lambda content: content.__delitem__(slice(1000, None)))

        with pytest.raises(CheckpointError, match=r"in \S+ckpt\.data-00000-of-00001 is corrupt or cut off"):
            restore(network, prefix)

    def test_data_gone(self, tmp_path: Path, network: keras.Model, values: Values) -> None:
        prefix = write(tmp_path / "ckpt", values)
        Path(f"{prefix}.data-00000-of-00001").unlink()

        with pytest.raises(CheckpointError, match=r"ckpt\.data"):
            restore(network, prefix)

    @pytest.mark.parametrize("position", [0, 0.3, 0.7])
    def test_index_damaged(
        self, tmp_path: Path, network: keras.Model, values: Values, position: float
    ) -> None:
        prefix = write(tmp_path / "ckpt", values)

        def flip(content: bytearray) -> None:
            content[int(position * len(content))] ^= 255

        self.damaged(prefix, ".index", flip)

        message = refusal(network, prefix)
        assert "ckpt.index is corrupt" in message

    def test_nothing_there(self, tmp_path: Path, network: keras.Model) -> None:
        message = refusal(network, str(tmp_path / "ckpt-1"))

        assert "ckpt-1.index" in message


def test_a_receipt_of_a_damaged_file_is_refused() -> None:
    whole = Receipt("ckpt", restored=("a",)).to_json()
    assert Receipt.from_json(whole, "ckpt") == Receipt("ckpt", restored=("a",))
    with pytest.raises(ValueError, match="restored: expected a list, found 3"):
        Receipt.from_json({**whole, "restored": 3}, "ckpt")
