"""The schema of a network and its evaluation in a registry, and what all parts of the schema share.

The hyper-parameters keep the names of the published configurations (google-research/deeplab2, config.proto),
so that an entry can be compared with the file it was transcribed from.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from zoo.registry.messages import describe_value

KMAX = "kmax_"
"""What the names of kMaX-DeepLab and its encoders start with."""

_OF_KMAX = {
    "use_squeeze_and_excite": False,
    "stem_width_multiplier": 1.0,
    "backbone_width_multiplier": 1.0,
    "backbone_layer_multiplier": 1.0,
    "use_sac_beyond_stride": -1,
}
"""What these encoders cannot vary."""

FeatureKey = Literal["res1", "res2", "res3", "res4", "res5"]
ConvolutionType = Literal["depthwise_separable_conv", "standard_conv"]

Count = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[int, Strict(), Field(gt=0)]
Flag = Annotated[bool, Strict()]
Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
SizePixels = tuple[Positive, Positive]


class Declared(BaseModel):
    """Base of the schema: immutable, and closed to keys it does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def wrong_key(key: str | int, expected: str, found: str) -> PydanticCustomError:
    """Returns the error for a key with a value that it must not have."""
    return PydanticCustomError("wrong_key", "{expected}", {"key": key, "expected": expected, "found": found})


class BackboneArchitecture(Declared):
    """What decides a backbone's variables."""

    name: Literal[
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "resnet50",
        "resnet50_beta",
        "wide_resnet41",
        "swidernet",
        "axial_swidernet",
        "max_deeplab_s_backbone",
        "max_deeplab_l_backbone",
        "kmax_resnet50",
        "kmax_axial_resnet50",
        "kmax_convnext_tiny",
        "kmax_convnext_small",
        "kmax_convnext_base",
        "kmax_convnext_large",
    ]
    use_squeeze_and_excite: Flag
    stem_width_multiplier: Factor
    backbone_width_multiplier: Factor
    backbone_layer_multiplier: Factor
    use_sac_beyond_stride: Annotated[int, Strict(), Field(ge=-1)]

    @property
    def is_kmax(self) -> bool:
        """Whether it is an encoder of kMaX-DeepLab, which its name alone decides."""
        return self.name.startswith(KMAX)

    @model_validator(mode="after")
    def _kmax_has_no_variants(self) -> Self:
        if self.is_kmax:
            for key, only in _OF_KMAX.items():
                if (found := getattr(self, key)) != only:
                    raise wrong_key(key, f"{describe_value(only)} for {self.name}", describe_value(found))
        return self


class BackboneOptions(BackboneArchitecture):
    """A backbone inside Panoptic-DeepLab or kMaX-DeepLab."""

    output_stride: Literal[8, 16, 32]
    drop_path_keep_prob: Probability
    drop_path_schedule: Literal["constant", "linear"]
    # Which tensors of MobileNetV3 the end points `res2` to `res5` are; None for every other backbone.
    low_level_endpoints: Literal["block_output", "depthwise_output"] | None = None

    @model_validator(mode="after")
    def _kmax_has_one_output_stride(self) -> Self:
        if self.is_kmax and self.output_stride != 32:
            raise wrong_key("output_stride", f"32 for {self.name}", str(self.output_stride))
        return self

    @model_validator(mode="after")
    def _endpoints_belong_to_mobilenet(self) -> Self:
        is_mobilenet = self.name.startswith("mobilenet_v3")
        if is_mobilenet and self.low_level_endpoints is None:
            raise wrong_key(
                "low_level_endpoints", f"block_output or depthwise_output for {self.name}", "none"
            )
        if not is_mobilenet and self.low_level_endpoints is not None:
            raise wrong_key("low_level_endpoints", f"none for {self.name}", self.low_level_endpoints)
        return self


class LowLevelFeature(Declared):
    """An encoder end point that a decoder joins after up-sampling."""

    feature_key: FeatureKey
    channels_project: Positive


def _three_or_none(rates: tuple[int, ...]) -> tuple[int, ...]:
    if len(rates) in (0, 3):
        return rates
    if len(rates) < 3:
        raise wrong_key(len(rates), "a value", "none")
    raise PydanticCustomError("too_long", "", {"max_length": 3})


class DecoderOptions(Declared):
    """ASPP on `feature_key`, then one stage per low-level feature.

    Without `atrous_rates` ASPP is its last 1 x 1 convolution (upstream's `aspp_use_only_1x1_proj_conv`).
    """

    feature_key: FeatureKey
    decoder_channels: Positive
    aspp_channels: Positive
    atrous_rates: Annotated[tuple[Positive, ...], AfterValidator(_three_or_none)]
    decoder_conv_type: ConvolutionType
    low_level: tuple[LowLevelFeature, ...]


class HeadOptions(Declared):
    """A prediction head on a decoder."""

    output_channels: Positive
    head_channels: Positive
    head_conv_type: ConvolutionType


class BatchNormOptions(Declared):
    """Batch normalisation of the whole network."""

    epsilon: Factor
    momentum: Probability


class EncoderOptions(Declared):
    """Everything that decides an encoder's variables and outputs."""

    backbone: BackboneOptions
    batch_norm: BatchNormOptions
    kind: ClassVar[str] = ""  # of the network, as upstream's folders of configurations are called
    # (height, width); sets the pooling window of ASPP, `(crop - 1) / output_stride + 1`.
    train_crop_size: SizePixels

    @model_validator(mode="after")
    def _has_a_backbone_of_its_kind(self) -> Self:
        if self.kind and self.backbone.is_kmax != self.kind.startswith(KMAX):
            raise wrong_key("backbone", f"a backbone of {self.kind}", self.backbone.name)
        return self


class NetworkOptions(EncoderOptions):
    """Everything that decides the variables and outputs of Panoptic-DeepLab."""

    kind = "panoptic_deeplab"
    semantic_decoder: DecoderOptions
    semantic_head: HeadOptions
    instance_decoder: DecoderOptions
    center_head: HeadOptions
    regression_head: HeadOptions


class SemanticDecoderOptions(DecoderOptions):
    """The semantic decoder of kMaX-DeepLab, on the last level's features before their activation."""

    feature_key: Literal["feature_semantic"]  # type: ignore[assignment]


class ClassHeadOptions(Declared):
    """The prediction of each slot's class."""

    output_channels: Positive  # classes, with void the last


class KMaxOptions(EncoderOptions):
    """Everything that decides the variables and outputs of kMaX-DeepLab.

    The semantic decoder and head are upstream's `auxiliary_semantic_decoder`, which the networks for
    Cityscapes lack, and `auxiliary_semantic_head`.
    """

    kind = "kmax_deeplab"
    semantic_decoder: SemanticDecoderOptions | None = None
    semantic_head: HeadOptions
    pixel_space_head: HeadOptions
    transformer_class_head: ClassHeadOptions
    num_mask_slots: Positive
    high_resolution_output_stride: Literal[2, 4]  # of the finest level that the pixel decoder reads


class EvaluationProtocol(Declared):
    """How the published numbers were made, whatever the network."""

    dataset: Text  # its name upstream
    crop_size: SizePixels  # (height, width) to which images are padded
    min_resize_value: tuple[Count, ...]  # lower bound of the shorter side; (0,) for no resizing
    max_resize_value: tuple[Count, ...]  # upper bound of the longer side; (0,) for no resizing
    stuff_area_limit: Count  # pixels; stuff segments smaller than this become void


class EvaluationOptions(EvaluationProtocol):
    """How the published numbers of a Panoptic-DeepLab network were made."""

    center_score_threshold: Probability  # lowest heatmap value of an instance center
    nms_kernel: Positive  # width of the max-pooling window of center non-maximum suppression
    keep_k_centers: Positive  # the most centers that are kept
    add_flipped_images: Flag  # whether mirrored images are averaged in
    eval_scales: tuple[Factor, ...]  # that are averaged; empty for single-scale


class MaskwiseOptions(Declared):
    """How the masks of kMaX-DeepLab become segments, one mask after the other."""

    transformer_class_confidence_threshold_thing: Probability  # lowest of a mask whose class is a thing
    transformer_class_confidence_threshold_stuff: Probability  # lowest of a mask whose class is stuff
    overlapping_threshold: Probability  # share of a mask's pixels that must be left by the masks before it
    # Masks are ordered by class confidence ^ class weight * mask score ^ mask weight.
    reorder_class_weight: Weight
    reorder_mask_weight: Weight


class MaskEvaluationOptions(EvaluationProtocol):
    """How the published numbers of a kMaX-DeepLab network were made."""

    thing_area_limit: Count  # pixels; instances smaller than this become void
    transformer_post_processing: Literal["maskwise", "pixelwise"]
    pixel_confidence_threshold: Probability  # a pixel belongs to a mask where its probability is above this
    transformer_class_confidence_threshold: Probability | None = None  # lowest of a mask, pixel-wise
    maskwise_postprocessing: MaskwiseOptions | None = None

    @model_validator(mode="after")
    def _has_the_settings_of_its_post_processing(self) -> Self:
        settings = {
            "maskwise": "maskwise_postprocessing",
            "pixelwise": "transformer_class_confidence_threshold",
        }
        for kind, key in settings.items():
            is_there, is_needed = getattr(self, key) is not None, kind == self.transformer_post_processing
            if is_there != is_needed:
                expected = f"{'a value' if is_needed else 'none'} with {self.transformer_post_processing}"
                raise wrong_key(key, expected, "one" if is_there else "none")
        return self
