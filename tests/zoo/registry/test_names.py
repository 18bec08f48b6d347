"""Names: full, short, ambiguous, unknown; selection by pattern; digests."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import UnknownNameError
from zoo.registry import Registry, list_entries, load_registry
from zoo.registry.schema import Entry

REGISTRY = load_registry()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cityscapes/resnet50_os32", "cityscapes/resnet50_os32"),
        ("swidernet_sac_1_1_4.5", "cityscapes/swidernet_sac_1_1_4.5_os16"),
        ("swidernet_sac_1_1_1_os16", "cityscapes/swidernet_sac_1_1_1_os16"),
        ("cityscapes/wide_resnet41", "cityscapes/wide_resnet41_os16"),
        ("wide_resnet41", "cityscapes/wide_resnet41_os16"),
        ("cityscapes/resnet50", "cityscapes/resnet50_os32"),
        ("resnet50_os16", "coco/resnet50_os16"),
        ("mobilenet_v3_small_os32", "cityscapes/mobilenet_v3_small_os32"),
        ("minicity/mobilenet_v3_small", "minicity/mobilenet_v3_small_os16"),
    ],
)
def test_resolve(name: str, expected: str) -> None:
    assert REGISTRY.resolve(name).name == expected


@pytest.mark.parametrize("entry", REGISTRY.entries, ids=lambda entry: entry.name)
def test_every_full_name_resolves_to_its_entry(entry: Entry) -> None:
    assert REGISTRY.resolve(entry.name) is entry
    assert REGISTRY.find(entry.name) is entry


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("resnet50_beta_os32", ["cityscapes/resnet50_beta_os32", "coco/resnet50_beta_os32"]),
        (
            "mobilenet_v3_small_os16",
            [
                "cityscapes/mobilenet_v3_small_os16",
                "minicity/mobilenet_v3_small_os16",
                "minicoco/mobilenet_v3_small_os16",
            ],
        ),
        ("cityscapes/mobilenet_v3_large", ["mobilenet_v3_large_os32", "mobilenet_v3_large_os16"]),
        ("coco/resnet50", ["coco/resnet50_os32", "coco/resnet50_os16"]),
        ("resnet50", ["cityscapes/resnet50_os32", "coco/resnet50_os32", "coco/resnet50_os16"]),
    ],
)
def test_ambiguous_names_list_what_they_fit(name: str, fitting: list[str]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        REGISTRY.resolve(name)
    message = str(caught.value)
    assert f"matches {len(fitting)} entries" in message
    assert all(candidate in message for candidate in fitting)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("cityscapes/resnet50_os23", "cityscapes/resnet50_os32"),
        ("swidernet_sac_1_1_5.4", "cityscapes/swidernet_sac_1_1_4.5_os16"),
        ("wide_resnet", "cityscapes/wide_resnet41_os16"),
        ("imagenet/resnet50_stron", "imagenet/resnet50_strong"),
        ("resnet50_bta_os32", "cityscapes/resnet50_beta_os32"),
    ],
)
def test_unknown_names_suggest(name: str, suggestion: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        REGISTRY.resolve(name)
    message = str(caught.value)
    assert message.startswith(f"no entry {name!r} (did you mean ")
    assert suggestion in message
    assert message.endswith("run `zoo list` for all names")


def test_nothing_is_suggested_where_nothing_is_close() -> None:
    with pytest.raises(UnknownNameError, match=r"^no entry 'qqq'; run `zoo list` for all names$"):
        REGISTRY.resolve("qqq")


@given(st.text(max_size=30))
def test_an_unknown_name_of_any_text_is_reported_on_one_line(name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        REGISTRY.find(f"voc/{name}")
    assert len(str(caught.value).splitlines()) == 1


def test_backbones_are_found_by_full_name_only() -> None:
    assert REGISTRY.find("imagenet/resnet50_strong").kind == "backbone"
    assert REGISTRY.find("wide_resnet41").kind == "panoptic"
    with pytest.raises(UnknownNameError, match="ImageNet backbone"):
        REGISTRY.resolve("imagenet/resnet50_strong")
    with pytest.raises(UnknownNameError):
        REGISTRY.find("resnet50_strong")


def _names(registry: Registry, *patterns: str, **filters: str) -> list[str]:
    return [entry.name for entry in registry.select(patterns, **filters)]


def test_select() -> None:
    everything = [entry.name for entry in REGISTRY.entries]
    assert _names(REGISTRY) == everything
    assert _names(REGISTRY, "coco/*") == [name for name in everything if name.startswith("coco/")]
    assert _names(REGISTRY, "swidernet*") == [name for name in everything if "/swidernet" in name]
    assert _names(REGISTRY, "wide_resnet41", "cityscapes/resnet50_os32") == [
        "cityscapes/resnet50_os32",
        "cityscapes/wide_resnet41_os16",
    ]
    assert _names(REGISTRY, dataset="minicity", project="panoptic_deeplab") == [
        "minicity/mobilenet_v3_small_os16"
    ]
    assert _names(REGISTRY, "cityscapes/*", project="axial_deeplab") == [
        *(f"cityscapes/axial_swidernet_1_1_{layers}_os16" for layers in ("1", "3", "4.5")),
        *(f"cityscapes/max_deeplab_{size}_backbone_os16" for size in "sl"),
    ]
    assert _names(REGISTRY, backbone="swidernet_sac_1_1_3") == ["cityscapes/swidernet_sac_1_1_3_os16"]
    assert len(_names(REGISTRY, backbone="swidernet")) == 3
    assert _names(REGISTRY, "*_os16", dataset="coco", backbone="resnet50*") == [
        "coco/resnet50_os16",
        "coco/resnet50_beta_os16",
    ]
    assert [entry.name for entry in list_entries("coco/*")] == _names(REGISTRY, "coco/*")


def test_select_refuses_what_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"no entry matches 'voc/\*'"):
        REGISTRY.select(["voc/*"])
    with pytest.raises(UnknownNameError, match="did you mean 'cityscapes'"):
        REGISTRY.select(dataset="cityscape")
    with pytest.raises(
        UnknownNameError, match=r"no project 'axial'.*expected one of panoptic_deeplab, axial_d"
    ):
        REGISTRY.select(project="axial")
    with pytest.raises(UnknownNameError, match="expected one of cityscapes, coco, ade20k, minicity"):
        REGISTRY.dataset("voc")


@pytest.mark.parametrize(
    ("backbone", "kinds"),
    [
        ("MobilenetV3-S", {"mobilenet_v3_small"}),
        ("MobileNetV3-Small", {"mobilenet_v3_small"}),
        ("mobilenetv3-*", {"mobilenet_v3_small", "mobilenet_v3_large"}),
        ("ResNet-50", {"resnet50", "kmax_resnet50"}),
        ("RESNET50", {"resnet50", "kmax_resnet50"}),
        ("resnet", {"resnet50", "resnet50_beta", "wide_resnet41", "kmax_resnet50", "kmax_axial_resnet50"}),
        ("convnext-t", {"kmax_convnext_tiny"}),
        ("beta", {"resnet50_beta"}),
        ("SWideRNet-SAC-(1, 1, 4.5)", {"swidernet"}),
    ],
)
def test_backbones_match_by_title_and_by_part(backbone: str, kinds: set[str]) -> None:
    found = REGISTRY.select(backbone=backbone)
    assert {entry.network.backbone.name for entry in found} == kinds


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"backbone": "resnet51"}, "no entry has the backbone 'resnet51' (did you mean 'resnet50'?)"),
        ({"backbone": "vgg"}, "expected one of mobilenet_v3_small, mobilenet_v3_large, resnet50"),
        ({"backbone": ""}, "no entry has the backbone ''"),
        ({"dataset": "coco", "backbone": "mobilenet*"}, "all of: --dataset coco, --backbone mobilenet*"),
        ({"patterns": ["minicity/*"], "dataset": "coco"}, "all of: minicity/*, --dataset coco"),
        ({"patterns": ["cityscape/*"]}, "no entry matches 'cityscape/*' (did you mean cityscapes/*?)"),
        ({"patterns": ["*resnet51*"]}, "did you mean cityscapes/resnet50_os32"),
        ({"patterns": ["imagenet/*"]}, "`zoo list --backbones` shows them"),
    ],
)
def test_a_selection_of_nothing_is_an_error_with_a_suggestion(filters: dict[str, Any], expected: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        REGISTRY.select(**filters)
    assert expected in str(caught.value)


def test_names_and_globs_stand_for_entries_in_the_order_given_each_once() -> None:
    found = REGISTRY.resolve_all(["minic*/mob*", "COCO/resnet50_os*", "minicity/mobilenet_v3_small"])
    assert [entry.name for entry in found] == [
        "minicity/mobilenet_v3_small_os16",
        "minicoco/mobilenet_v3_small_os16",
        "coco/resnet50_os32",
        "coco/resnet50_os16",
    ]


def test_a_glob_means_entries_unless_it_names_imagenet() -> None:
    assert {each.kind for each in REGISTRY.find_all(["*resnet50*"])} == {"panoptic"}
    assert list(REGISTRY.backbones) == REGISTRY.find_all(["imagenet/*"])
    with pytest.raises(
        UnknownNameError, match=r"no ImageNet backbone matches 'resnet51' \(did you mean 'resnet50'"
    ):
        REGISTRY.select_backbones(["resnet51"])


def test_digests_tell_entries_apart_and_are_stable() -> None:
    digests = {entry.name: entry.digest() for entry in REGISTRY.entries}
    assert len(set(digests.values())) == len(digests)
    assert {entry.name: entry.digest() for entry in load_registry().entries} == digests
    assert all(len(digest) == 64 for digest in digests.values())


def test_digest_sees_every_value() -> None:
    entry = REGISTRY.resolve("cityscapes/resnet50_os32")
    declared = entry.model_dump()
    declared["network"]["batch_norm"]["epsilon"] = 1e-5
    assert Entry.model_validate(declared).digest() != entry.digest()
    declared["network"]["batch_norm"]["epsilon"] = 0.001
    assert Entry.model_validate(declared).digest() == entry.digest()
    first = declared["published"][0]
    first["value"] = str(first["value"]) + "0"
    assert Entry.model_validate(declared).digest() != entry.digest()


def test_entries_survive_json() -> None:
    for entry in REGISTRY.entries:
        dumped = json.dumps(entry.model_dump(mode="json"))
        assert Entry.model_validate(json.loads(dumped)) == entry
