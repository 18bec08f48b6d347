"""The built-in registry says what was published: tables, configurations, files, numbers of parameters."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from zoo.registry import Entry, Registry, load_registry

DATA = Path(__file__).parents[2] / "data"
STORAGE = "https://storage.googleapis.com/gresearch/tf-deeplab"

# Column of the tables, without escapes -> evaluator and metric of the claim.
COLUMNS = {
    "val PQ [*]": ("official", "pq"),
    "val PQ<sup>thing</sup> [*]": ("official", "pq_things"),
    "val PQ<sup>stuff</sup> [*]": ("official", "pq_stuff"),
    "test PQ [*]": ("server", "pq"),
    "test PQ<sup>thing</sup> [*]": ("server", "pq_things"),
    "test PQ<sup>stuff</sup>": ("server", "pq_stuff"),
    "val PQ [**]": ("internal", "pq"),
    "PQ<sup>thing</sup> [*]": ("official", "pq_things"),
    "PQ<sup>stuff</sup> [*]": ("official", "pq_stuff"),
    "AP<sup>mask</sup> [*]": ("official", "ap"),
    "PQ [*]": ("official", "pq"),
    "mIoU [*]": ("official", "miou"),
    "PQ [**]": ("internal", "pq"),
    "mIoU [**]": ("internal", "miou"),
    "AP<sup>Mask</sup> [**]": ("internal", "ap"),
}

AXIAL = [
    *(f"axial_swidernet_1_1_{layers}" for layers in ("1", "3", "4.5")),
    *(f"max_deeplab_{size}_backbone" for size in "sl"),
]

CONVNEXT = [f"convnext_{size}" for size in ("tiny", "small", "base", "large")]
KMAX = ["resnet50", "axial_resnet50", *CONVNEXT]

SAVED_MODELS = {
    *(f"cityscapes/{name}_os16" for name in AXIAL),
    "cityscapes/resnet50_beta_os32",
    "cityscapes/wide_resnet41_os16",
    "cityscapes/swidernet_sac_1_1_1_os16",
    "cityscapes/swidernet_sac_1_1_3_os16",
    "cityscapes/swidernet_sac_1_1_4.5_os16",
}


@dataclass(frozen=True)
class TableRow:
    dataset: str
    source: str
    title: str
    config: str
    checkpoint: str
    output_stride: str  # empty where the table does not print it, as the next
    input_resolution: str
    numbers: list[tuple[str, str, str]]


def _published_rows() -> list[TableRow]:
    rows = []
    source, first_line, dataset = "", 0, ""
    table: list[str] = []
    for line in (DATA / "registry" / "published_tables.md").read_text().splitlines():
        marker = re.fullmatch(r"<!-- (\S+):(\d+) (\w+) -->", line)
        if marker:
            source, first_line, dataset, table = marker[1], int(marker[2]), marker[3], []
        elif "|" in line:
            table.append(line)
            cells = [cell.strip() for cell in line.split("|")]
            if len(table) > 2:
                rows.append(_row(table[0], cells, dataset, f"{source}:{first_line + len(table) - 1}"))
    return rows


def _row(header: str, cells: list[str], dataset: str, source: str) -> TableRow:
    columns = [cell.strip().replace("\\", "") for cell in header.split("|")]
    named = dict(zip(columns, cells, strict=True))
    # One link of the published table ends in a stray parenthesis.
    links = re.fullmatch(
        r"(.*) \(\[config\]\(\.\./\.\./(.*?)\), \[ckpt\]\((.*?)\)\)+", named["Backbone"].strip()
    )
    assert links is not None
    return TableRow(
        dataset=dataset,
        source=source,
        title=links[1],
        config=links[2],
        checkpoint=links[3],
        output_stride=named.get("Output stride", ""),
        input_resolution=named.get("Input resolution", named.get("Input Resolution", "")),
        numbers=sorted((*COLUMNS[column], named[column]) for column in columns if column in COLUMNS),
    )


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


@pytest.fixture(scope="module")
def published_entries(registry: Registry) -> list[Entry]:
    return [entry for entry in registry.entries if entry.config is not None]


@pytest.fixture(scope="module")
def published_configurations() -> dict[str, dict]:
    return json.loads((DATA / "registry" / "models.json").read_text())


def _options(entry: Entry) -> dict:
    dumped = entry.model_dump(mode="json", exclude_none=True)
    return {**dumped["network"], "evaluation": dumped["evaluation"], "training": dumped["training"]}


def test_every_table_row_is_an_entry_and_every_entry_is_a_table_row(published_entries: list[Entry]) -> None:
    published = _published_rows()
    assert len(published) == 19 + 17
    by_source = {row.source: row for row in published}
    declared = [
        TableRow(
            dataset=entry.dataset,
            source=source,
            title=entry.title,
            config=entry.config or "",
            checkpoint=entry.checkpoint.url,
            output_stride=str(entry.output_stride) if by_source[source].output_stride else "",
            input_resolution=(
                "{} x {}".format(*entry.input_resolution) if by_source[source].input_resolution else ""
            ),
            numbers=sorted((claim.evaluator, claim.metric, str(claim.value)) for claim in entry.published),
        )
        for entry in published_entries
        for source in [entry.published[0].source]
    ]
    assert {row.source: row for row in declared} == by_source
    assert len(declared) == len(by_source)


def test_printed_decimals_are_kept(registry: Registry) -> None:
    claims = {
        (claim.evaluator, claim.metric): claim
        for claim in registry.resolve("cityscapes/swidernet_sac_1_1_1_os16").published
    }
    assert str(claims["internal", "ap"].value) == "36.80"
    assert claims["internal", "ap"].decimals == 2
    assert claims["official", "pq"].decimals == 1
    small = registry.resolve("cityscapes/mobilenet_v3_small_os32").published
    assert [(str(claim.value), claim.decimals) for claim in small] == [
        ("46.7", 1),
        ("69.5", 1),
        ("46.92", 2),
        ("69.8", 1),
        ("16.53", 2),
    ]


def test_names_say_what_the_entries_are(registry: Registry) -> None:
    for entry in registry.entries:
        assert entry.name.startswith(f"{entry.dataset}/")
        if entry.project == "kmax_deeplab":
            assert entry.short_name.startswith(entry.network.backbone.name)
            continue
        assert entry.name.endswith(f"_os{entry.output_stride}")
        if entry.config is not None:
            assert Path(entry.config).name.startswith(entry.short_name)


def test_options_equal_the_published_configurations(
    published_entries: list[Entry], published_configurations: dict[str, dict]
) -> None:
    declared = {
        (entry.config or "").removeprefix("configs/").removesuffix(".textproto"): _options(entry)
        for entry in published_entries
    }
    assert declared == published_configurations


def test_numbers_are_numbers_of_the_declared_type(registry: Registry) -> None:
    for entry in registry.entries:
        backbone = entry.network.backbone
        assert type(backbone.backbone_layer_multiplier) is float
        assert type(entry.network.batch_norm.epsilon) is float
        if entry.network.kind == "panoptic_deeplab":
            assert type(entry.evaluation.center_score_threshold) is float
        assert all(type(claim.value) is Decimal for claim in entry.published)


def test_parameters_equal_the_shapes_of_the_published_variables(published_entries: list[Entry]) -> None:
    lines = (DATA / "registry" / "parameters.tsv").read_text().splitlines()[1:]
    expected = {}
    for line in lines:
        configuration, trainable, moving_statistics = line.split("\t")
        expected[f"configs/{configuration}.textproto"] = int(trainable) + int(moving_statistics)
    assert {entry.config: entry.parameters for entry in published_entries} == expected


def test_saved_models(registry: Registry) -> None:
    found = {entry.name: entry.saved_model.url for entry in registry.entries if entry.saved_model is not None}
    expected = {}
    for name in SAVED_MODELS:
        project = registry.resolve(name).project
        stem = name.partition("/")[2]
        file_name = f"{stem}_{project}_cityscapes_trainfine_saved_model.tar.gz"
        expected[name] = f"{STORAGE}/saved_model/{file_name}"
    for dataset in ("coco", "cityscapes"):
        for backbone in KMAX:
            file_name = f"{backbone}_kmax_deeplab_{dataset}_train.tar.gz"
            expected[f"{dataset}/kmax_{backbone}"] = f"{STORAGE}/saved_model/{file_name}"
    file_name = "convnext_large_kmax_deeplab_coco_train_unlabeled.tar.gz"
    expected["coco/kmax_convnext_large_unlabeled"] = f"{STORAGE}/saved_model/{file_name}"
    assert found == expected


def test_crowd_variant_is_kept_apart_from_the_row(registry: Registry) -> None:
    entry = registry.resolve("cityscapes/resnet50_os32")
    (crowd,) = entry.related
    assert crowd.checkpoint is not None
    assert crowd.saved_model is not None
    assert "_crowd_" in crowd.checkpoint.url
    assert "_crowd_" in crowd.saved_model.url
    assert "_crowd_" not in entry.checkpoint.url
    assert entry.saved_model is None


def test_backbones(registry: Registry) -> None:
    found = {
        backbone.name: (backbone.checkpoint.file_name, backbone.strategy, backbone.data)
        for backbone in registry.backbones
    }
    strong = [
        "resnet50_beta",
        "wide_resnet41",
        *(f"swidernet_sac_1_1_{x}" for x in ("1", "3", "4.5")),
        *AXIAL,
    ]
    simple = ["resnet50", "mobilenet_v3_small", "mobilenet_v3_large"]
    expected = {f"imagenet/{name}": (f"{name}_imagenet1k.tar.gz", "simple", "ImageNet-1K") for name in simple}
    for name in ("resnet50", *strong):
        full_name = "imagenet/resnet50_strong" if name == "resnet50" else f"imagenet/{name}"
        file_name = f"{name}_imagenet1k_strong_training_strategy.tar.gz"
        expected[full_name] = (file_name, "strong", "ImageNet-1K")
    both = "ImageNet-22K + 1K"
    expected["imagenet/axial_resnet50"] = ("maxs_gelu_imagenet_22k_1k_224.tar.gz", "strong", both)
    for name in CONVNEXT:
        expected[f"imagenet/{name}"] = (f"{name}_imagenet_22k_1k_384.tar.gz", "converted", both)
    assert found == expected
    assert all(item.checkpoint.url.startswith(f"{STORAGE}/checkpoint/") for item in registry.backbones)


def test_backbones_have_the_architecture_of_their_rows(registry: Registry) -> None:
    fields = set(type(registry.backbones[0].network.backbone).model_fields)
    seen = set()
    for backbone in registry.backbones:
        pattern = backbone.short_name.removesuffix("_strong")
        of_backbone = re.compile(rf"(kmax_)?{re.escape(pattern)}(_os\d+|_res\d+|_unlabeled)?")
        for entry in registry.entries:
            if entry.dataset.startswith("mini") or not of_backbone.fullmatch(entry.short_name):
                continue
            expected = backbone.network.backbone.model_dump()
            if entry.project == "kmax_deeplab":
                expected["name"] = f"kmax_{pattern}"
            assert entry.network.backbone.model_dump(include=fields) == expected
            seen.add(entry.name)
    assert seen == {
        entry.name for entry in registry.entries if not entry.name.startswith(("minicity/", "minicoco/"))
    }


def test_datasets(registry: Registry) -> None:
    declared = {item.name: (item.format, item.split, item.images) for item in registry.datasets}
    assert declared["cityscapes"] == ("cityscapes", "val", 500)
    assert declared["coco"] == ("coco", "val2017", 5000)
    assert declared["ade20k"] == ("ade20k", "val", 2000)
    assert declared["minicity"] == ("cityscapes", "val", 30)
    assert declared["minicoco"] == ("coco", "val2017", 30)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("minicity/mobilenet_v3_small_os16", ""),
        ("minicoco/mobilenet_v3_small_os16", ""),
        ("minicity/axial_swidernet_os16", "_axial"),
    ],
)
def test_bundled_entries_equal_what_the_reference_measured(
    registry: Registry, name: str, suffix: str
) -> None:
    entry = registry.resolve(name)
    options = json.loads((DATA / entry.dataset / f"model{suffix}.json").read_text())
    measured = json.loads((DATA / entry.dataset / f"published{suffix}.json").read_text())
    assert entry.published[0].source == f"tests/data/{entry.dataset}/published{suffix}.json"
    assert _options(entry) == options[entry.name]
    assert entry.name == measured["entry"]
    assert [(c.evaluator, c.metric, c.decimals, float(c.value)) for c in entry.published] == [
        (c["evaluator"], c["metric"], c["decimals"], c["value"]) for c in measured["claims"]
    ]
    dataset = registry.dataset(entry.dataset)
    assert dataset.images == measured["images"]
    assert dataset.archive is not None
    for file in (entry.checkpoint, dataset.archive):
        facts = measured["files"][file.file_name]
        assert (file.sha256, file.bytes) == (facts["sha256"], facts["bytes"])


def test_bundled_files_are_the_declared_ones(registry: Registry) -> None:
    import hashlib
    from importlib import resources

    bundled = [entry.checkpoint for entry in registry.entries]
    bundled += [dataset.archive for dataset in registry.datasets if dataset.archive is not None]
    bundled = [file for file in bundled if file.url.startswith("package://")]
    assert len(bundled) == 5
    for file in bundled:
        package, _, path = file.url.removeprefix("package://").partition("/")
        content = resources.files(package).joinpath(path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)


def test_every_claim_has_a_tolerance(registry: Registry) -> None:
    for entry in registry.entries:
        for claim in entry.published:
            assert 0 < claim.tolerance <= Decimal("0.2"), (entry.name, claim)


@pytest.mark.parametrize(
    "name",
    ["minicity/mobilenet_v3_small_os16", "minicoco/mobilenet_v3_small_os16", "minicity/axial_swidernet_os16"],
)
def test_parameters_of_the_bundled_checkpoints(registry: Registry, tmp_path: Path, name: str) -> None:
    import io
    import math
    import tarfile
    from importlib import resources

    import tensorflow as tf

    entry = registry.resolve(name)
    content = resources.files("zoo.assets").joinpath(entry.checkpoint.file_name).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                (tmp_path / Path(member.name).name).write_bytes(file.read())
    (index,) = tmp_path.glob("*.index")
    bookkeeping = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")
    shapes = [
        shape
        for name, shape in tf.train.list_variables(str(index.with_suffix("")))
        if not name.startswith(bookkeeping)
    ]
    assert entry.parameters == sum(math.prod(shape) for shape in shapes)
