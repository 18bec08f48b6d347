"""The table of kinds: what each is made of, how it is damaged, and what may come of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import archives
import replies
import yaml
from damage import YAML_TRAPS, damage_a_file, damage_json, damage_statistics, other_example, yaml_text
from driver import Case, Done, Kind, call, contents
from mutators import damage_bytes, damage_text, damage_value, flip_bit
from seeds import NAME, Seeds

SHARES = {
    "archives": 60,
    "checkpoints": 40,
    "converted files": 30,
    "exported files": 20,
    "registry files": 60,
    "configurations": 60,
    "pictures": 50,
    "Cityscapes ground truth": 40,
    "COCO annotations": 40,
    "class tables": 30,
    "TFRecords": 60,
    "run records": 120,
    "predictions": 40,
    "published tables": 30,
    "HTTP replies": 40,
}
"""Kind -> its cases in a short run; a long one keeps the proportions."""


@dataclass
class Table:
    """The kinds over their whole input.

    Attributes:
      seeds: the whole input.
      results: what came of it, where nothing else may come of damaged input.
      server: answers the requests of `HTTP replies`.
    """

    seeds: Seeds
    server: replies.RawServer
    results: dict[str, Any] = field(default_factory=dict)

    def kinds(self) -> dict[str, Kind]:
        """Returns the kinds by name."""
        make: dict[str, Callable[[Random | None, Path], Case]] = {
            "archives": self.archive,
            "checkpoints": self.checkpoint,
            "converted files": self.converted,
            "exported files": self.exported,
            "registry files": self.registry,
            "configurations": self.configuration,
            "pictures": self.picture,
            "Cityscapes ground truth": self.city,
            "COCO annotations": self.coco,
            "class tables": self.classes,
            "TFRecords": self.tfrecord,
            "run records": self.record,
            "predictions": self.predictions,
            "published tables": self.published,
            "HTTP replies": self.http,
        }
        return {name: Kind(make[name], cases) for name, cases in SHARES.items()}

    def same(self, name: str, rng: Random | None, value_of: Callable[[Done], Any]) -> Any:
        """Returns a look that wants of damaged input what came of the whole one, or an error."""

        def look(done: Done) -> str | None:
            if rng is None:
                self.results[name] = value_of(done)
            elif done.code in (0, 1) and value_of(done) != self.results[name]:
                return f"{value_of(done)!r:.300} of damaged input, expected {self.results[name]!r:.300}"
            return None

        return look

    # ---- what is fetched and loaded ----

    def archive(self, rng: Random | None, given: Path) -> Case:
        """Archives with members that they should not have, and damaged ones."""
        made = archives.whole() if rng is None else archives.damaged(rng)
        is_damaged = rng is not None and rng.random() < 0.4
        if rng is not None and is_damaged:
            made = archives.Archive(damage_bytes(archives.whole().data, rng), archives.BASE)
        path = given / "net.tar.gz"
        path.write_bytes(made.data)
        own = self._own_registry(given, path.as_uri())
        return Case(["--registry", own, "fetch", "own/net", "--json"], _unpacked(given, made.files))

    def http(self, rng: Random | None, given: Path) -> Case:
        """Replies of a server that lies."""
        made = archives.whole()
        right = replies.whole(made.data)
        self.server.replies = right if rng is None else replies.damaged(made.data, self.server.url, rng)
        own = self._own_registry(given, f"{self.server.url}/net.tar.gz")
        return Case(["--registry", own, "fetch", "own/net", "--json"], _unpacked(given, made.files))

    def _own_registry(self, given: Path, url: str) -> Path:
        os.environ["ZOO_CACHE"] = str(given.parent / "out" / "cache")
        path = given / "own.yaml"
        path.write_text(self.seeds.registry.read_text().replace("https://example.org/net.tar.gz", url))
        return path

    def checkpoint(self, rng: Random | None, given: Path) -> Case:
        """Checkpoints with flipped bits, and cut or patched ones."""
        files = dict(self.seeds.checkpoint)
        if rng is not None:
            end = rng.choice([".index", *files])
            files[end] = rng.choice((flip_bit, flip_bit, damage_bytes))(files[end], rng)
        for end, data in files.items():
            (given / f"ckpt{end}").write_bytes(data)
        words = ["load-check", NAME, "--checkpoint", given / "ckpt", "--json"]
        return Case(words, self.same("checkpoints", rng, lambda done: json.loads(done.out)["sha256"]))

    def converted(self, rng: Random | None, given: Path) -> Case:
        """Files of `zoo convert`."""
        end = "safetensors" if rng is None else rng.choice(list(self.seeds.converted))
        data = self.seeds.converted[end]
        path = given / f"net.{end}"
        if rng is not None:
            # What is said of the weights is short; a flip in the middle seldom meets it.
            head = rng.random() < 0.5
            data = damage_bytes(data[:20_000], rng) + data[20_000:] if head else damage_bytes(data, rng)
        path.write_bytes(data)
        words = ["load-check", NAME, "--model", path, "--json"]
        return Case(words, self.same("converted", rng, lambda done: json.loads(done.out)["sha256"]))

    def exported(self, rng: Random | None, given: Path) -> Case:
        """What the files of `zoo export` say of themselves."""
        runtime = "onnx" if rng is None else rng.choice(list(self.seeds.exported))
        path, about = self.seeds.exported[runtime]
        for file in path.parent.glob(f"{path.stem}*"):
            if runtime == "openvino" or file == path:
                shutil.copytree(file, given / file.name) if file.is_dir() else shutil.copy(file, given)
        if rng is not None:
            value = damage_value(json.loads(about), rng)
            text = json.dumps(value) if rng.random() < 0.7 else damage_text(about, rng)
            self._say(given / path.name, runtime, about, text)
        words = ["load-check", NAME, "--runtime", runtime, "--model", given / path.name, "--trust", "--json"]
        return Case(words)

    def _say(self, path: Path, runtime: str, about: str, text: str) -> None:
        """Puts another description into a file."""
        if runtime == "saved_model":
            (path / "assets.extra/zoo.json").write_bytes(text.encode("utf-8", errors="replace"))
        elif runtime == "onnx":
            import onnx

            model = onnx.load_model(path)
            (said,) = (each for each in model.metadata_props if each.key == "zoo")
            said.value = text.encode("utf-8", errors="replace").decode()
            onnx.save_model(model, path)
        else:
            # Of the same length, or the rest of the file would move.
            data, old = path.read_bytes(), about.encode()
            new = text.encode("utf-8", errors="replace")[: len(old)].ljust(len(old))
            path.write_bytes(data.replace(old, new) if old in data else data)

    # ---- texts ----

    def registry(self, rng: Random | None, given: Path) -> Case:
        """Registry files: wrong types, huge numbers, anchors, cycles, names that look like others."""
        text = self.seeds.registry.read_text()
        if rng is not None:
            way = rng.randrange(4)
            if way == 0:
                text = rng.choice(YAML_TRAPS) + rng.choice(("", text.partition("\n")[2]))
            elif way == 1:
                text = damage_text(text, rng)
            else:
                text = yaml_text(damage_value(yaml.safe_load(text), rng))
        (given / "own.yaml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
        choices = (
            ("list", "--json"),
            ("list",),
            ("list", "--format", "csv"),
            ("list", "--format", "markdown"),
            ("show", "own/net"),
            ("show", "own/net", "--json"),
            ("report", "published", "--dataset", "cityscapes"),
        )
        return Case(["--registry", given / "own.yaml", *(choices[0] if rng is None else rng.choice(choices))])

    def configuration(self, rng: Random | None, given: Path) -> Case:
        """Configurations of DeepLab2, in the text format of protocol buffers."""
        source = Path(__file__).parents[1] / "data" / "registry"
        names = ("minicity.textproto", "minicity_axial.textproto")
        text = (source / (names[0] if rng is None else rng.choice(names))).read_text()
        if rng is not None:
            for _ in range(rng.choice((1, 1, 3))):
                text = damage_text(text, rng)
            if rng.random() < 0.05:
                text += "model_options {" * rng.choice((50, 5000, 200_000))
        (given / "net.textproto").write_bytes(text.encode("utf-8", errors="replace"))
        (given / "net.tar.gz").write_bytes(b"x")
        words = ["registry", "new", "own/net", "--checkpoint", given / "net.tar.gz"]
        return Case([*words, "--config", given / "net.textproto", "--dataset", "minicity"])

    def published(self, rng: Random | None, given: Path) -> Case:
        """Markdown files with tables like the published ones."""
        text = (Path(__file__).parents[1] / "data/reports/published_coco.md").read_text()
        if rng is not None:
            for _ in range(rng.choice((1, 3, 10))):
                text = damage_text(text, rng)
        (given / "tables.md").write_bytes(text.encode("utf-8", errors="surrogatepass"))
        return Case(["report", "lint", given / "tables.md", "--json"])

    # ---- pictures and data sets ----

    def picture(self, rng: Random | None, given: Path) -> Case:
        """Pictures in many formats."""
        name = "rgb.png" if rng is None else rng.choice(list(self.seeds.pictures))
        data = self.seeds.pictures[name]
        if rng is not None:
            data = rng.choice((flip_bit, damage_bytes))(data, rng)
        path = given / f"picture.{name}"
        path.write_bytes(data)
        out = given.parent / "out" / "predicted"

        def look(done: Done) -> str | None:
            # A PNG's parts have checksums; other formats cannot tell.
            if rng is None or done.code or not name.endswith(".png"):
                return None
            if name not in self.results:
                clean = given.parent / "clean"
                clean.mkdir()
                (clean / path.name).write_bytes(self.seeds.pictures[name])
                call("predict", NAME, clean / path.name, "--out", clean / "out", "--write", "coco")
                self.results[name] = _maps(clean / "out")
            return None if _maps(out) == self.results[name] else "other maps of a damaged PNG"

        return Case(["predict", NAME, path, "--out", out, "--write", "coco"], look)

    def city(self, rng: Random | None, given: Path) -> Case:
        """Pictures and ground truth in the Cityscapes layout."""
        shutil.copytree(self.seeds.city, given / "city")
        if rng is not None:
            damage_a_file(given / "city", rng)
        own = self.seeds.registry
        return Case(
            ["--registry", own, "data", "check", "tiny", "--data", given / "city", "--full"]
            if rng is None or rng.random() < 0.5
            else ["data", "add", "mine", "--data", given / "city"]
        )

    def classes(self, rng: Random | None, given: Path) -> Case:
        """Tables of classes for ground truth in the Cityscapes layout."""
        value: Any = [
            {"id": number, "name": f"class {number}", "isthing": int(number >= 24), "color": [number, 0, 9]}
            for number in range(34)
        ]
        if rng is not None:
            value = damage_value(value, rng)
        text = json.dumps(value)
        if rng is not None and rng.random() < 0.3:
            text = damage_text(text, rng)
        (given / "classes.json").write_bytes(text.encode("utf-8", errors="surrogatepass"))
        words = ["data", "add", "mine", "--data", self.seeds.city, "--classes", given / "classes.json"]
        return Case(words)

    def coco(self, rng: Random | None, given: Path) -> Case:
        """Annotations in the COCO format."""
        shutil.copytree(self.seeds.coco, given / "coco")
        if rng is not None:
            if rng.random() < 0.2:
                damage_a_file(given / "coco", rng)
            else:
                path = rng.choice(sorted((given / "coco/annotations").glob("*.json")))
                damage_json(path, rng)
        own = self.seeds.registry
        return Case(
            ["--registry", own, "data", "check", "tiny_coco", "--data", given / "coco", "--full"]
            if rng is None or rng.random() < 0.5
            else ["data", "add", "mine", "--data", given / "coco", "--split", "val2017"]
        )

    def tfrecord(self, rng: Random | None, given: Path) -> Case:
        """TFRecords, some of them with right checksums over wrong contents."""
        whole = data = self.seeds.tfrecord
        if rng is not None and rng.random() < 0.4:
            data = other_example(data, rng)
            whole = data
        elif rng is not None:
            data = rng.choice((flip_bit, damage_bytes))(data, rng)
        (given / "val.tfrecord").write_bytes(data)
        words = ["--registry", self.seeds.registry, "data", "check", "tiny", "--full"]

        def look(done: Done) -> str | None:
            return "a damaged TFRecord found sound" if done.code == 0 and data != whole else None

        return Case([*words, "--data", given / "val.tfrecord"], look)

    # ---- what runs left, and predictions ----

    def record(self, rng: Random | None, given: Path) -> Case:
        """Run records and their folders, given to every report command."""
        run = given / "run"
        shutil.copytree(self.seeds.run, run)
        is_json = True
        if rng is not None:
            target = rng.choice(("record", "record", "record", "statistics", "other"))
            if target == "record":
                is_json = damage_json(run / "record.json", rng)
            elif target == "statistics":
                damage_statistics(rng.choice(sorted((run / "images").glob("*.npz"))), rng)
            else:
                name = rng.choice(("run.json", "odd.json", "images/odd.npz", "pictures/x.png"))
                (run / name).parent.mkdir(exist_ok=True)
                (run / name).write_bytes(rng.choice((b"[" * 200_000, b"", b"\xff", b"null", b"{}")))
        out = given.parent / "out"
        choices: tuple[tuple[object, ...], ...] = (
            *(("report", "diff", run, "--format", form) for form in ("terminal", "markdown", "csv", "json")),
            *(("report", "measured", run, "--format", form) for form in ("markdown", "csv", "latex")),
            ("report", "measured", run, "--side-by-side"),
            ("report", "html", given, "--out", out / "page.html"),
            ("report", "compare", run, self.seeds.run),
            ("report", "compare", self.seeds.run, run, "--json"),
            ("report", "history", NAME, "--records", given, "--picture", out / "history.svg"),
            ("report", "history", NAME, "--records", given, "--json"),
            ("explain", run, "--per-class", "--picture", out / "gap.svg"),
            ("explain", run, "--json"),
        )

        def look(done: Done) -> str | None:
            if not is_json and done.code in (0, 1):
                return "a report of a record that is not JSON"
            for path in out.glob("*.*"):
                if _RAW in path.read_text(encoding="utf-8"):
                    return f"{path.name} holds markup of the record"
            return None

        return Case([*(choices[-1] if rng is None else rng.choice(choices))], look)

    def predictions(self, rng: Random | None, given: Path) -> Case:
        """Folders of predictions given to `zoo score`."""
        folder = given / "predictions"
        shutil.copytree(self.seeds.predictions, folder)
        claims = given / "claims.yaml"
        text = "internal: {pq: 58.1, miou: 70.25}\n"
        is_about_claims = rng is not None and rng.random() < 0.1
        if rng is not None and is_about_claims:
            text = damage_text(text, rng)
        elif rng is not None and rng.random() < 0.4:
            damage_json(folder / "panoptic.json", rng)
        elif rng is not None:
            damage_a_file(folder, rng)
        claims.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        words = ["--registry", self.seeds.registry, "score", folder, "--dataset", "tiny"]
        words += ["--data", str(self.seeds.city)]
        out = given.parent / "out"
        scored = [*words, "--evaluator", "internal", "--claims", claims, "--out", out, "--json"]
        way = 0.0 if rng is None or is_about_claims else rng.random()
        if way < 0.3:
            return Case(scored)
        return Case([*words, "--check"] if way < 0.7 else [*words, "--fix", out / "fixed"])


_RAW = "<script>alert(1)</script>"


def _unpacked(given: Path, files: dict[str, bytes] | None) -> Callable[[Done], str | None]:
    """Returns a look at what an archive became: these files, whole, or an error and nothing."""
    cache = given.parent / "out" / "cache"

    def look(done: Done) -> str | None:
        found = {
            name.partition("/contents/")[2]: data
            for name, data in contents(cache / "checkpoints").items()
            if "/contents/" in name
        }
        if Path("/tmp/zoo-fuzz-escaped").exists() or "escaped" in " ".join(contents(given.parent)):
            return "a file outside of its folder"
        if done.code:
            return f"left {sorted(found)} of an archive that was refused" if found else None
        if files is None:
            return f"took an archive that has to be refused: {sorted(found)}"
        return None if sorted(found.values()) == sorted(files.values()) else f"other files: {sorted(found)}"

    return look


def _maps(out: Path) -> list[bytes]:
    return [data for name, data in sorted(contents(out).items()) if name.endswith(".png")]
