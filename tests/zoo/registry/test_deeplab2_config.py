"""Configurations of DeepLab2: what is read from them, and how faults in them are reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from zoo.errors import RegistryError
from zoo.registry import load_registry
from zoo.registry.deeplab2_config import read_config
from zoo.registry.network_options import DecoderOptions, HeadOptions
from zoo.registry.schema import Entry
from zoo.registry.textproto import Name, Value, parse_textproto

ENTRIES = [entry for entry in load_registry().entries if entry.network.kind == "panoptic_deeplab"]


def _lines(options: Iterable[str]) -> str:
    return "\n    ".join(options)


def _repeated(name: str, values: tuple[float, ...]) -> str:
    return _lines(f"{name}: {value}" for value in values)


def _low_level(name: str, decoder: DecoderOptions) -> str:
    return _lines(
        f'{name} {{ feature_key: "{each.feature_key}" channels_project: {each.channels_project} }}'
        for each in decoder.low_level
    )


def _decoder(name: str, decoder: DecoderOptions) -> str:
    aspp = _repeated("atrous_rates", decoder.atrous_rates) or "aspp_use_only_1x1_proj_conv: true"
    return f"""{name} {{
      feature_key: "{decoder.feature_key}"
      decoder_channels: {decoder.decoder_channels}
      aspp_channels: {decoder.aspp_channels}
      {aspp}
    }}"""


def _head(name: str, head: HeadOptions) -> str:
    return f"{name} {{\n  output_channels: {head.output_channels}\n  head_channels: {head.head_channels}\n}}"


def published_form(entry: Entry) -> str:
    """Returns an entry's settings as upstream writes them, most defaults left out."""
    network, evaluation, training = entry.network, entry.evaluation, entry.training
    assert training is not None
    backbone = network.backbone
    options = [f'name: "{backbone.name}"', f"output_stride: {backbone.output_stride}"]
    options += ["use_squeeze_and_excite: true"] if backbone.use_squeeze_and_excite else []
    for name in ("stem_width", "backbone_width", "backbone_layer"):
        if (factor := getattr(backbone, f"{name}_multiplier")) != 1.0:
            options.append(f"{name}_multiplier: {factor:g}")
    if backbone.use_sac_beyond_stride != -1:
        options.append(f"use_sac_beyond_stride: {backbone.use_sac_beyond_stride}")
    if backbone.drop_path_keep_prob != 1.0:
        options.append(f"drop_path_keep_prob: {backbone.drop_path_keep_prob}")
    if backbone.drop_path_schedule != "constant":
        options.append(f'drop_path_schedule: "{backbone.drop_path_schedule}"')
    solver = [f"base_learning_rate: {training.base_learning_rate}"]
    solver += [f"training_number_of_steps: {training.steps}", "warmup_steps: 2000  # not read"]
    if network.batch_norm.epsilon != 0.001:
        solver.append("batchnorm_epsilon: 0.00001")
    if network.batch_norm.momentum != 0.99:
        solver.append(f"batchnorm_momentum: {network.batch_norm.momentum}")
    flags = "add_flipped_images: true" if evaluation.add_flipped_images else ""
    return f"""# proto-file: deeplab2/config.proto
# proto-message: ExperimentOptions

experiment_name: "${{EXPERIMENT_NAME}}"
model_options {{
  # Update the path to the initial checkpoint (e.g., ImageNet pretrained checkpoint).
  initial_checkpoint: "${{INIT_CHECKPOINT}}"
  backbone {{
    {_lines(options)}
  }}
  {_decoder("decoder", network.semantic_decoder)}
  panoptic_deeplab {{
    {_low_level("low_level", network.semantic_decoder)}
    instance {{
      {_low_level("low_level_override", network.instance_decoder)}
      {_decoder("instance_decoder_override", network.instance_decoder)}
      {_head("center_head", network.center_head)}
      {_head("regression_head", network.regression_head)}
    }}
    {_head("semantic_head", network.semantic_head)}
  }}
}}
trainer_options {{
  save_checkpoints_steps: 1000
  loss_options {{ center_loss {{ name: "mse" weight: 200 }} }}
  solver_options {{
    {_lines(solver)}
  }}
}}
train_dataset_options {{
  dataset: "{evaluation.dataset}"
  file_pattern: "${{TRAIN_SET}}"
  batch_size: {training.batch_size}
  {_repeated("crop_size", network.train_crop_size)}
  {_repeated("min_resize_value", evaluation.min_resize_value)}
  augmentations {{ min_scale_factor: 0.5 max_scale_factor: 1.5 }}
}}
eval_dataset_options {{
  dataset: "{evaluation.dataset}"
  file_pattern: "${{VAL_SET}}"
  batch_size: 1
  {_repeated("crop_size", evaluation.crop_size)}
  {_repeated("min_resize_value", evaluation.min_resize_value)}
  {_repeated("max_resize_value", evaluation.max_resize_value)}
}}
evaluator_options {{
  continuous_eval_timeout: -1
  stuff_area_limit: {evaluation.stuff_area_limit}
  nms_kernel: {evaluation.nms_kernel}
  {flags}
  {_repeated("eval_scales", evaluation.eval_scales)}
  merge_semantic_and_instance_with_tf_op: false
}}
"""


def _text() -> str:
    return published_form(load_registry().resolve("cityscapes/resnet50_os32"))


def _file(folder: Path, text: str) -> Path:
    path = folder / "net.textproto"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entrys_configuration_is_read_as_its_settings(entry: Entry, tmp_path: Path) -> None:
    path = _file(tmp_path, published_form(entry))
    settings, ignored = read_config(path, entry.network.backbone.low_level_endpoints)
    declared = entry.model_dump(mode="json")
    assert settings == {name: declared[name] for name in ("network", "evaluation", "training")}
    assert {"experiment_name", "trainer_options.loss_options"} < set(ignored)
    assert "eval_dataset_options.batch_size" in ignored
    assert "train_dataset_options.batch_size" not in ignored


def test_the_defaults_are_upstreams(tmp_path: Path) -> None:
    heads = "".join(
        f"{name}_head < output_channels: 1 head_channels: 8 >" for name in ("center", "regression")
    )
    text = f"""
    model_options {{
      decoder {{ feature_key: 'res5' atrous_rates: [3, 6, 9] }}
      panoptic_deeplab {{
        low_level: [{{feature_key: "res3" channels_project: 64}}, <feature_key: "res2"; channels_project: 32>]
        semantic_head {{ output_channels: 19, head_channels: 256 }}
        instance {{ {heads} }}
      }}
    }}
    train_dataset_options {{ crop_size: [65, 129] }}
    eval_dataset_options {{ dataset: "city" "scapes_panoptic" crop_size: [65, 129] }}"""
    settings, ignored = read_config(_file(tmp_path, text))
    network, evaluation = settings["network"], settings["evaluation"]
    assert ignored == []
    assert (network["backbone"]["name"], network["backbone"]["output_stride"]) == ("resnet50", 32)
    assert network["batch_norm"] == {"epsilon": 0.001, "momentum": 0.99}
    assert network["instance_decoder"] == network["semantic_decoder"]
    assert network["semantic_decoder"]["decoder_channels"] == 256
    assert network["center_head"]["head_conv_type"] == "depthwise_separable_conv"
    assert evaluation == {
        "dataset": "cityscapes_panoptic",
        "crop_size": [65, 129],
        "min_resize_value": [0],
        "max_resize_value": [0],
        "stuff_area_limit": 0,
        "center_score_threshold": 0.1,
        "nms_kernel": 3,
        "keep_k_centers": 400,
        "add_flipped_images": False,
        "eval_scales": [],
    }
    assert settings["training"] == {"steps": 60000, "batch_size": 32, "base_learning_rate": 0.001}


def test_mobilenet_gets_the_depthwise_outputs_unless_told(tmp_path: Path) -> None:
    path = _file(tmp_path, published_form(load_registry().resolve("cityscapes/mobilenet_v3_small_os32")))
    for given, expected in ((None, "depthwise_output"), ("block_output", "block_output")):
        assert read_config(path, given)[0]["network"]["backbone"]["low_level_endpoints"] == expected


def _in(block: str, line: str) -> Callable[[str], str]:
    return lambda text: text.replace(f"{block} {{", f"{block} {{\n{line}", 1)


def _instead(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _in("decoder", "decoder_chanels: 3"),
            "unknown field 'decoder_chanels' in model_options.decoder (did you mean 'decoder_channels'?)",
        ),
        (lambda text: "model {}\n" + text, "unknown field 'model' at the top"),
        (
            _in("model_options", "max_deeplab {}"),
            "model_options.max_deeplab: expected panoptic_deeplab, found MaX-DeepLab with the backbone",
        ),
        (
            lambda text: re.sub(r"atrous_rates: \d+", "", text, count=3),
            "model_options.decoder.atrous_rates: expected a value, found none",
        ),
        (
            _instead('name: "resnet50"', 'name: "resnet51"'),
            "model_options.backbone.name: expected 'mobilenet_v3_small', ",
        ),
        (
            _instead("nms_kernel: 13", "nms_kernel: many"),
            "evaluator_options.nms_kernel: expected a number, true, false, or quotes, found many",
        ),
        (_instead("nms_kernel: 13", "nms_kernel: 1.5"), "evaluator_options.nms_kernel: expected an integer"),
        (_instead("nms_kernel: 13", "nms_kernel {}"), "evaluator_options.nms_kernel: expected a number"),
        (_instead("nms_kernel: 13", "nms_kernel: 1 nms_kernel: 2"), "expected one value, found 2"),
        (_in("model_options", "decoder: 3"), "model_options.decoder: expected one value, found 2"),
        (lambda text: "model_options: 3", "model_options: expected a message in braces, found 3"),
        (
            _instead("output_channels: 1\n", "output_channels: 0\n"),
            "instance.center_head.output_channels: expected more than 0, found 0",
        ),
        (
            lambda text: text.split("eval_dataset_options")[0],
            "eval_dataset_options.dataset: expected a value",
        ),
        (lambda text: "", "expected a value, found none"),
        (lambda text: text.rstrip().removesuffix("}"), "expected a field name or '}', which closes line"),
        (lambda text: text + "}", "expected a field name, found '}'"),
        (lambda text: text + "a b", "expected ':' or '{', found 'b'"),
        (lambda text: text + "a:", "expected a value, found the end of the file"),
        (lambda text: text + "a: [1 2]", "expected ',' or ']', found '2'"),
        (lambda text: text + "a: 'b\n'", 'or a string that ends on its line, found "\'b"'),
        (lambda text: text + "a: '\\q'", "expected a known escape in the string"),
        (
            lambda text: text + "a: %",
            "expected a field, a value, or a string that ends on its line, found '%'",
        ),
        (lambda text: "a {" * 5000, "expected at most 100 messages inside each other"),
    ],
)
def test_a_fault_is_one_line_with_its_place(
    change: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    path = _file(tmp_path, change(_text()))
    with pytest.raises(RegistryError) as raised:
        read_config(path)
    lines = str(raised.value).splitlines()
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", line) for line in lines)
    assert message in lines[0]
    assert len(lines) == 1 or "expected a value" in message


def test_all_faults_are_told(tmp_path: Path) -> None:
    text = _text().replace("model_options {", "model_options {\nbakbone {}\n", 1)
    path = _file(tmp_path, text.replace("nms_kernel: 13", "nms_kernel: many\nkeep: 3", 1))
    with pytest.raises(RegistryError) as raised:
        read_config(path)
    reasons = [line.split(": ", 1)[1] for line in str(raised.value).splitlines()]
    assert reasons == [
        "unknown field 'bakbone' in model_options (did you mean 'backbone'?)",
        "evaluator_options.nms_kernel: expected a number, true, false, or quotes, found many",
        "unknown field 'keep' in evaluator_options",
    ]
    bare = _file(tmp_path, "decoder {}\nmotion_deeplab {}")
    with pytest.raises(RegistryError) as raised:
        read_config(bare)
    assert str(raised.value).splitlines() == [
        f"{bare}:1: unknown field 'decoder' at the top, expected it in model_options",
        f"{bare}:2: unknown field 'motion_deeplab' at the top, expected it in model_options",
    ]


# Published configurations of networks that are not built here: folder, the field of `model_options` that
# describes the network, its backbones, and what the network is called.
FOREIGN = [
    ("example", "panoptic_deeplab", ("axial_resnet50", "max_deeplab_s"), ""),
    ("coco/max_deeplab", "max_deeplab", ("max_deeplab_s", "max_deeplab_l"), "MaX-DeepLab"),
    ("*/kmax_deeplab", "max_deeplab", ("kmax_resnet50", "kmax_axial_resnet50"), "kMaX-DeepLab"),
    *[
        ("*/kmax_deeplab", "max_deeplab", (f"kmax_convnext_{size}",), "kMaX-DeepLab")
        for size in ("tiny", "small", "base", "large")
    ],
    ("kitti/motion_deeplab", "motion_deeplab", ("resnet50",), "Motion-DeepLab (for video)"),
    ("*_dvps/vip_deeplab", "vip_deeplab", ("resnet50_beta", "wide_resnet41"), "ViP-DeepLab (for video)"),
    ("example", "deeplab_v3", ("resnet50",), "DeepLabV3 (semantic segmentation alone)"),
    ("example", "deeplab_v3_plus", ("resnet50",), "DeepLabV3+ (semantic segmentation alone)"),
]


@pytest.mark.parametrize(("folder", "field", "backbones", "network"), FOREIGN)
def test_a_network_that_is_not_built_here_is_named_in_one_line(
    folder: str, field: str, backbones: tuple[str, ...], network: str, tmp_path: Path
) -> None:
    for backbone in backbones:
        text = _text().replace('name: "resnet50"', f'name: "{backbone}"', 1)
        # Its other fields, whatever they are, are not faults of it.
        path = _file(tmp_path, text.replace("panoptic_deeplab {", f"{field} {{ another: 1", 1))
        with pytest.raises(RegistryError) as raised:
            read_config(path)
        expected = f"expected panoptic_deeplab, found {network} with the backbone {backbone}"
        place = f"model_options.{field}: {expected}"
        if not network:
            place = f"or 'max_deeplab_l_backbone', found {backbone!r}"
        rest = "such networks cannot be built here"
        if network == "kMaX-DeepLab":
            rest = (
                "no such configuration is read: extend an entry of that network, such as coco/kmax_resnet50"
            )
        assert f"{place}; {rest}" in str(raised.value), folder
        assert "\n" not in str(raised.value)


def test_a_fault_names_the_line(tmp_path: Path) -> None:
    path = _file(tmp_path, "model_options {\n  backbone {\n    nam: 'x'\n  }\n}")
    with pytest.raises(RegistryError, match=r":3: unknown field 'nam' in model_options\.backbone"):
        read_config(path)
    with pytest.raises(RegistryError, match="expected a configuration, found none to read"):
        read_config(tmp_path / "none.textproto")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("3", 3), ("-3", -3), ("- 3", -3), ("0x1F", 31), ("010", 8), ("1.5", 1.5), (".5", 0.5)],
        *[("1e-5", 1e-5), ("1.5f", 1.5), ("2.", 2.0), ("-inf", float("-inf")), ("true", True), ("f", False)],
        *[("'a\"b'", 'a"b'), ('"a" \'b\'\n"c"', "abc"), (r'"\n\t\\\"\'\x41\101"', "\n\t\\\"'AA")],
        *[(r'"\303\251 \u00e9"', "é é"), ('"# no comment"  # one', "# no comment")],
    ],
)
def test_scalars(text: str, value: object) -> None:
    assert parse_textproto(f"a: {text}", "x").content == {"a": [Value(1, value)]}  # type: ignore[arg-type]


def test_grammar() -> None:
    parsed = parse_textproto("a: NAME; b < c: [1, 2] c: 3 >, b: { }\nd: []", "x")
    assert isinstance(parsed.content, dict)
    assert parsed.content["a"] == [Value(1, Name("NAME"))]
    first, second = parsed.content["b"]
    assert first.content == {"c": [Value(1, value) for value in (1, 2, 3)]}
    assert second == Value(1, {})
    assert parsed.content["d"] == []
