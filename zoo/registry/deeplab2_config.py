"""Reads the settings of an entry from a configuration of google-research/deeplab2 (`*.textproto`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from zoo.errors import RegistryError
from zoo.registry.messages import Problems, describe_value, did_you_mean, explain_error
from zoo.registry.network_options import KMAX, BackboneOptions, EvaluationOptions, NetworkOptions
from zoo.registry.schema import TrainingOptions
from zoo.registry.textproto import Name, Value, parse_textproto
from zoo.registry.yaml_file import read_text

Fields = dict[str, Any]


def _ignored(names: str) -> Fields:
    return dict.fromkeys(names.split(), ...)


# Fields as in the *.proto files: a default, or a type where there is none; a list where it may be repeated;
# `...` where no evaluation depends on it; None where networks that cannot be built here have it (`_FOREIGN`).
_DECODER: Fields = {"feature_key": str, "decoder_channels": 256, "aspp_channels": 256, "atrous_rates": [int]}
_DECODER |= {"decoder_conv_type": "depthwise_separable_conv", "aspp_use_only_1x1_proj_conv": False}
_LOW_LEVEL = {"feature_key": str, "channels_project": int}
_HEAD: Fields = {"output_channels": int, "head_channels": int, "head_conv_type": "depthwise_separable_conv"}
_HEAD |= {"max_value_after_activation": 0, "min_value_after_activation": 0}
_INSTANCE: Fields = {"center_head": _HEAD, "regression_head": _HEAD, "next_regression_head": None}
_INSTANCE |= {"enable": True, "low_level_override": [_LOW_LEVEL], "instance_decoder_override": _DECODER}
_BACKBONE: Fields = {"name": "resnet50", "output_stride": 32, "use_squeeze_and_excite": False}
_BACKBONE |= {"drop_path_keep_prob": 1.0, "drop_path_schedule": "constant", "use_sac_beyond_stride": -1}
_BACKBONE |= {f"{part}_multiplier": 1.0 for part in ("stem_width", "backbone_width", "backbone_layer")}
_BACKBONE |= {"pretrained_weights": ...}
_PANOPTIC = {"low_level": [_LOW_LEVEL], "instance": _INSTANCE, "semantic_head": _HEAD, "depth_head": None}
_MODEL: Fields = {"backbone": _BACKBONE, "decoder": _DECODER, "panoptic_deeplab": _PANOPTIC}
_MODEL |= dict.fromkeys(("deeplab_v3", "deeplab_v3_plus", "motion_deeplab", "max_deeplab", "vip_deeplab"))
_MODEL |= _ignored("""initial_checkpoint restore_semantic_last_layer_from_initial_checkpoint
    restore_instance_last_layer_from_initial_checkpoint""")
_SOLVER: Fields = {"batchnorm_momentum": 0.99, "batchnorm_epsilon": 0.001, "base_learning_rate": 0.001}
_SOLVER |= {"training_number_of_steps": 60000}
_SOLVER |= _ignored("""use_sync_batchnorm learning_policy poly_learning_power poly_end_learning_rate
    warmup_steps optimizer weight_decay adamw_weight_decay use_gradient_clipping clip_gradient_norm
    backbone_learning_rate_multiplier""")
_TRAINER = {"solver_options": _SOLVER} | _ignored("""loss_options num_checkpoints_to_keep
    save_checkpoints_steps save_summaries_steps steps_per_loop""")
_EVALUATED = {"dataset": str, "crop_size": [int], "min_resize_value": [int], "max_resize_value": [int]}
_DATASET = _ignored("""file_pattern batch_size augmentations sigma increase_small_instance_weights
    small_instance_threshold small_instance_weight use_two_frames decode_groundtruth_label
    thing_id_mask_annotations max_thing_id use_next_frame cameras_to_use""")
_TRAINED = {**_DATASET, **_ignored("dataset min_resize_value max_resize_value resize_factor")}
_TRAINED |= {"crop_size": [int], "batch_size": 32}
_EVALUATOR: Fields = {"stuff_area_limit": 0, "center_score_threshold": 0.1, "nms_kernel": 3}
_EVALUATOR |= {"keep_k_centers": 400, "add_flipped_images": False, "eval_scales": [float]}
_EVALUATOR |= _ignored("""eval_steps eval_interval continuous_eval_timeout use_tf_function thing_area_limit
    transformer_class_confidence_threshold pixel_confidence_threshold transformer_post_processing
    maskwise_postprocessing save_predictions override_save_dir num_vis_samples save_raw_predictions
    raw_panoptic_format convert_raw_to_eval_ids merge_semantic_and_instance_with_tf_op detailed_ap_metrics""")
_FIELDS: Fields = {"experiment_name": ..., "model_options": _MODEL, "trainer_options": _TRAINER}
_FIELDS |= {"train_dataset_options": _TRAINED, "evaluator_options": _EVALUATOR}
_FIELDS |= {"eval_dataset_options": {**_DATASET, **_EVALUATED, "resize_factor": None}}

# The networks that are not built here, by the field of `model_options` that describes them.
_FOREIGN = {
    "motion_deeplab": "Motion-DeepLab (for video)",
    "vip_deeplab": "ViP-DeepLab (for video)",
    "max_deeplab": "MaX-DeepLab",
    "deeplab_v3": "DeepLabV3 (semantic segmentation alone)",
    "deeplab_v3_plus": "DeepLabV3+ (semantic segmentation alone)",
}
_NOT_BUILT = "such networks cannot be built here"
_NOT_READ = "no such configuration is read: extend an entry of that network, such as coco/kmax_resnet50"
_NAMES: tuple[str, ...] = get_args(BackboneOptions.model_fields["name"].annotation)
_BACKBONES = tuple(name for name in _NAMES if not name.startswith(KMAX))

# Networks are built for the default of these alone.
_FIXED = {"max_value_after_activation", "min_value_after_activation", "enable"}

# Where a setting stands in a configuration; what is below it has the same names there.
_PLACES = {
    "network.backbone": "model_options.backbone",
    "network.semantic_decoder": "model_options.decoder",
    "network.semantic_decoder.low_level": "model_options.panoptic_deeplab.low_level",
    "network.semantic_head": "model_options.panoptic_deeplab.semantic_head",
    "network.instance_decoder": "model_options.panoptic_deeplab.instance.instance_decoder_override",
    "network.instance_decoder.low_level": "model_options.panoptic_deeplab.instance.low_level_override",
    "network.center_head": "model_options.panoptic_deeplab.instance.center_head",
    "network.regression_head": "model_options.panoptic_deeplab.instance.regression_head",
    "network.batch_norm.epsilon": "trainer_options.solver_options.batchnorm_epsilon",
    "network.batch_norm.momentum": "trainer_options.solver_options.batchnorm_momentum",
    "network.train_crop_size": "train_dataset_options.crop_size",
    "evaluation": "evaluator_options",
    **{f"evaluation.{name}": f"eval_dataset_options.{name}" for name in _EVALUATED},
    "training": "trainer_options.solver_options",
    "training.steps": "trainer_options.solver_options.training_number_of_steps",
    "training.batch_size": "train_dataset_options.batch_size",
}
_MODELS: dict[str, type[BaseModel]]
_MODELS = {"network": NetworkOptions, "evaluation": EvaluationOptions, "training": TrainingOptions}


def read_config(path: Path, low_level_endpoints: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings `network`, `evaluation` and `training`, and the fields that change none of them.

    No configuration holds `low_level_endpoints`: a MobileNetV3 gets the given ones, or the depthwise outputs.

    Raises:
        RegistryError: It is not of a Panoptic-DeepLab for single images that can be built here, or it has
            faults: a line for each, with file and line.
    """
    reader = _Reader(str(path), parse_textproto(read_text(path, "a configuration"), str(path)))
    return reader.settings(low_level_endpoints or "depthwise_output"), reader.ignored


class _Reader:
    def __init__(self, label: str, message: Value) -> None:
        self._label, self._message = label, message
        self.ignored: list[str] = []
        self._problems = Problems()
        self._refuse_foreign()
        self._values = self._checked(message, _FIELDS, "")
        self._problems.check()
        self._places = dict(_PLACES)
        for part in ("decoder", "decoder.low_level"):  # what is not said of instances is as for semantics
            if not self._value(_PLACES[f"network.instance_{part}"]):
                self._places[f"network.instance_{part}"] = _PLACES[f"network.semantic_{part}"]

    def settings(self, low_level_endpoints: str) -> dict[str, Any]:
        found = {name: self._read(model, name) for name, model in _MODELS.items()}
        if str(found["network"]["backbone"]["name"]).startswith("mobilenet_v3"):
            found["network"]["backbone"]["low_level_endpoints"] = low_level_endpoints
        for bound in ("min_resize_value", "max_resize_value"):
            found["evaluation"][bound] = found["evaluation"][bound] or [0]
        for name in ("semantic_decoder", "instance_decoder"):
            # Without any rate, ASPP has to be said to be its last convolution alone.
            if self._value(self._place(f"network.{name}.aspp_use_only_1x1_proj_conv")):
                found["network"][name]["atrous_rates"] = []
            elif not found["network"][name].get("atrous_rates"):
                found["network"][name].pop("atrous_rates", None)
        for name, model in _MODELS.items():
            try:
                found[name] = model.model_validate(found[name]).model_dump(mode="json")
            except ValidationError as error:
                for detail in error.errors(include_url=False):
                    path, reason = explain_error(model, detail)
                    place = self._place(".".join([name, *(part for part in path if isinstance(part, str))]))
                    self._problems.add(self._error(self._message.line_of(place), f"{place}: {reason}"))
        self._problems.check()
        return found

    def _refuse_foreign(self) -> None:
        """Raises a RegistryError that names the network, where it is not one that can be built here."""
        backbone = self._message.value_of("model_options.backbone.name")
        for field, network in _FOREIGN.items():
            place = f"model_options.{field}"
            if self._message.value_of(place) is not None:
                rest = _NOT_BUILT
                if field == "max_deeplab" and str(backbone).startswith(KMAX):
                    network = "kMaX-DeepLab"
                    rest = _NOT_READ
                about = f" with the backbone {backbone}" if isinstance(backbone, str) else ""
                raise self._foreign(place, f"expected panoptic_deeplab, found {network}{about}; {rest}")
        if isinstance(backbone, str) and backbone not in _BACKBONES:
            expected = f"{', '.join(map(repr, _BACKBONES[:-1]))} or {_BACKBONES[-1]!r}"
            place = "model_options.backbone.name"
            raise self._foreign(place, f"expected {expected}, found {backbone!r}; {_NOT_BUILT}")

    def _foreign(self, place: str, reason: str) -> RegistryError:
        return self._error(self._message.line_of(place), f"{place}: {reason}")

    def _read(self, model: type[BaseModel], path: str) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for name, field in model.model_fields.items():
            own, kind = f"{path}.{name}", field.annotation
            # For Python 3.10 `tuple[int, ...]` is a type too.
            if isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel):
                settings[name] = self._read(kind, own)
            elif name != "low_level_endpoints" and (value := self._value(self._place(own))) is not None:
                settings[name] = value
        return settings

    def _place(self, setting: str) -> str:
        above, _, name = setting.rpartition(".")
        return self._places.get(setting) or f"{self._place(above)}.{name}"

    def _value(self, place: str) -> Any:
        """Returns the value of a field, its default, or None."""
        value: Any = self._values
        kind: Any = _FIELDS
        for name in place.split("."):
            value, kind = (value or {}).get(name), kind[name]
        if value is not None or isinstance(kind, (type, dict)):
            return value
        return [] if isinstance(kind, list) else kind

    def _checked(self, message: Value, fields: Fields, path: str) -> dict[str, Any]:
        if not isinstance(message.content, dict):
            found = describe_value(message.content)
            raise self._error(message.line, f"{path}: expected a message in braces, found {found}")
        checked: dict[str, Any] = {}
        for name, values in message.content.items():
            with self._problems.collected():
                line, place = (values[-1] if values else message).line, f"{path}.{name}".lstrip(".")
                if name not in fields:
                    raise self._error(line, _unknown(name, fields, path))
                if fields[name] is ...:
                    self.ignored.append(place)
                else:
                    checked[name] = self._value_of_field(name, fields[name], values, line, place)
        return checked

    def _value_of_field(self, name: str, kind: Any, values: list[Value], line: int, place: str) -> Any:
        if kind is None:
            raise self._error(line, f"{place}: expected panoptic_deeplab for single images alone")
        if isinstance(kind, list):
            return [self._converted(value, kind[0], place) for value in values]
        if len(values) != 1:
            raise self._error(line, f"{place}: expected one value, found {len(values) or 'none'}")
        value = self._converted(values[0], kind, place)
        if name in _FIXED and value != kind:
            reason = f"expected {describe_value(kind)}, found {describe_value(value)}"
            raise self._error(line, f"{place}: {reason}; {_NOT_BUILT}")
        return value

    def _converted(self, value: Value, kind: Any, place: str) -> Any:
        if isinstance(kind, dict):
            return self._checked(value, kind, place)
        if isinstance(value.content, (dict, Name)):
            found = "a message" if isinstance(value.content, dict) else value.content
            raise self._error(
                value.line, f"{place}: expected a number, true, false, or quotes, found {found}"
            )
        return bool(value.content) if isinstance(kind, bool) and value.content in (0, 1) else value.content

    def _error(self, line: int, message: str) -> RegistryError:
        return RegistryError(f"{self._label}:{line}: {message}")


def _unknown(name: str, fields: Fields, path: str) -> str:
    """Returns the message about a field that is not one of a message's."""
    where = f"in {path}" if path else "at the top"
    hint = did_you_mean(name, fields)
    if not path and name in _MODEL:
        hint = ", expected it in model_options"
    return f"unknown field {name!r} {where}{hint}"
