"""Runs over data in buckets and on web servers give what runs over the same data on disk give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
UNEQUAL = ("timings", "efficiency")


@pytest.fixture(autouse=True)
def _own_cache(zoo_call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.remote import mirror

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    mirror.mirror_of.cache_clear()
    mirror.room_of.cache_clear()


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    del record["checkpoint"]["receipt"]["prefix"]
    return {key: value for key, value in record.items() if key not in UNEQUAL}


def reproduced(zoo_call: Call, name: str, data: object, *more: object) -> dict[str, Any]:
    entry = f"{name}/mobilenet_v3_small_os16"
    done = zoo_call("reproduce", entry, "--data", data, "--limit", 2, "--json", *more)
    assert done.returncode == 0, done.stderr
    return comparable(json.loads(done.stdout))


@pytest.fixture(scope="module")
def on_disk() -> dict[str, dict[str, Any]]:
    return {}


@pytest.fixture
def expected(on_disk: dict[str, Any], zoo_call: Call, data: Path) -> Callable[[str], dict[str, Any]]:
    """Returns a function that gives the record of a data set on disk."""

    def record(name: str) -> dict[str, Any]:
        if name not in on_disk:
            on_disk[name] = reproduced(zoo_call, name, data / name)
        return on_disk[name]  # type: ignore[no-any-return]

    return record


@pytest.mark.parametrize(("store", "name"), [("web", "minicity"), ("s3", "minicoco")])
def test_records_equal_those_of_the_data_on_disk(
    store: str, name: str, request: pytest.FixtureRequest, zoo_call: Call, expected: Any
) -> None:
    found = request.getfixturevalue(store)
    url = f"{found if isinstance(found, str) else found.url}/{name}"
    assert reproduced(zoo_call, name, url) == expected(name)


def test_coco_needs_no_listing(web: Any, zoo_call: Call, expected: Any) -> None:
    web.lists = False
    assert reproduced(zoo_call, "minicoco", f"{web.url}/minicoco") == expected("minicoco")


def test_cityscapes_without_a_listing_says_what_it_needs(web: Any, zoo_call: Call) -> None:
    web.lists = False
    done = zoo_call("data", "check", "minicity", "--data", f"{web.url}/minicity")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "the server lists no files (it answered 403 Forbidden)" in done.stderr


def test_a_cache_that_is_smaller_than_the_data_serves(
    web: Any, zoo_call: Call, expected: Any, tmp_path: Path
) -> None:
    # All files are 4.9 MB, those that the official scripts read of two images much less.
    url = f"{web.url}/minicity"
    assert reproduced(zoo_call, "minicity", url, "--data-cache", "1MB") == expected("minicity")
    files = (tmp_path / "cache").glob("remote_data/*/objects/*/*")
    assert 0 < sum(path.stat().st_size for path in files) <= 1_000_000
    assert list((tmp_path / "cache" / "remote_data").glob("in-use-*")) != []


def test_official_scripts_that_find_no_room_say_how_much_they_need(web: Any, zoo_call: Call) -> None:
    entry = "minicity/mobilenet_v3_small_os16"
    done = zoo_call("reproduce", entry, "--data", f"{web.url}/minicity", "--data-cache", "200kB")
    assert done.returncode == 3
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"zoo: error: the official scripts on {web.url}/minicity: needs ")
    assert line.endswith("the cache for data may hold 200.0 kB; give --data-cache 1MB or more")


def test_an_image_that_cannot_be_fetched_is_left_out_or_named_and_the_run_resumes(
    web: Any, zoo_call: Call, fault: Any, data: Path, tmp_path: Path
) -> None:
    words = ["reproduce", "minicity/mobilenet_v3_small_os16", "--limit", 2, "--out", tmp_path / "out"]
    words += ["--data", f"{web.url}/minicity"]
    web.faults["frankfurt_000001_000019_leftImg8bit.png"] = fault.refuse(404)
    done = zoo_call(*words)
    assert done.returncode == 3
    assert "frankfurt_000001_000019_leftImg8bit.png: the server answered 404" in done.stderr
    web.faults.clear()
    assert zoo_call(*words).returncode == 0


def test_what_has_come_since_the_listing_is_found(
    web_of: Callable[[Path], Any], zoo_call: Call, s3: str, tmp_path: Path, data: Path
) -> None:
    import boto3

    client = boto3.client("s3")
    last = "gtFine/val/munster/munster_000009_000019_gtFine_labelIds.png"
    for path in sorted((data / "minicity").rglob("*.png")):
        name = path.relative_to(data / "minicity").as_posix()
        if name != last:
            client.upload_file(str(path), "data", f"growing/{name}")
    words = ["data", "check", "minicity", "--data", "s3://data/growing"]
    done = zoo_call(*words)
    assert done.returncode == 3
    assert last in done.stdout
    from zoo.remote import mirror

    mirror.mirror_of.cache_clear()
    client.upload_file(str(data / "minicity" / last), "data", f"growing/{last}")
    assert zoo_call(*words).returncode == 0
    client.close()


def test_a_registry_file_and_a_checkpoint_may_be_anywhere(
    web_of: Callable[[Path], Any], s3: str, zoo_call: Call, tmp_path: Path, data: Path
) -> None:
    from importlib import resources

    import boto3

    archive = "minicity_mobilenet_v3_small_os16.tar.gz"
    client = boto3.client("s3")
    client.put_object(
        Bucket="data", Key=f"own/{archive}", Body=resources.files("zoo.assets").joinpath(archive).read_bytes()
    )
    lines = [
        "version: 1",
        "datasets:",
        f"  mine: {{title: mine, format: cityscapes, split: val, images: 30, path: {s3}/minicity}}",
        "entries:",
        "  own/net:",
        "    extends: minicity/mobilenet_v3_small_os16",
        "    dataset: mine",
        f"    checkpoint: {archive}",
    ]
    client.put_object(Bucket="data", Key="own/zoo.yaml", Body="\n".join(lines).encode())
    there = ["--registry", "s3://data/own/zoo.yaml"]
    done = zoo_call(*there, "show", "own/net")
    assert f"s3://data/own/{archive}" in done.stdout
    done = zoo_call(*there, "verify", "own/net")
    assert done.returncode == 0, done.stderr
    done = zoo_call(*there, "data", "check", "mine", "--json")
    assert (done.returncode, json.loads(done.stdout)["images"]) == (0, 30)
    # The same file on a web server, named in the environment beside another.
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "zoo.yaml").write_text("\n".join(lines).replace(s3, str(data)))
    (folder / archive).write_bytes(resources.files("zoo.assets").joinpath(archive).read_bytes())
    url = f"{web_of(folder).url}/zoo.yaml"
    assert zoo_call("--registry", url, "verify", "own/net").returncode == 0
    # A later version of the file is seen.
    (folder / "zoo.yaml").write_text("\n".join(lines).replace("own/net", "own/other"))
    from zoo.remote import mirror

    mirror.mirror_of.cache_clear()
    assert zoo_call("--registry", url, "show", "own/other").returncode == 0
    shutil.rmtree(folder)
    mirror.mirror_of.cache_clear()
    done = zoo_call("--registry", url, "show", "own/other")
    assert done.returncode == 3
    assert f"{url}: is not there" in done.stderr
    # A checkpoint that changed in the bucket is noticed.
    client.put_object(Bucket="data", Key=f"own/{archive}", Body=b"something else")
    shutil.rmtree(tmp_path / "cache" / "downloads")
    done = zoo_call(*there, "verify", "own/net")
    assert done.returncode == 3
    assert "the file has changed: accept it with" in done.stderr
    client.close()


def test_a_run_in_a_bucket_is_the_run_on_disk(s3: str, zoo_call: Call, data: Path, tmp_path: Path) -> None:
    from zoo.remote.stores import BucketStore

    entry, name = "minicity/mobilenet_v3_small_os16", "minicity__mobilenet_v3_small_os16__limit2"
    words = ["reproduce", entry, "--data", data / "minicity", "--limit", 2, "--json", "--out"]
    here = zoo_call(*words, tmp_path / "out")
    there = zoo_call(*words, "s3://runs/mine")
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert f"run record: s3://runs/mine/{name}/record.json" in there.stderr
    assert comparable(json.loads(there.stdout)) == comparable(json.loads(here.stdout))
    store, folder = BucketStore("s3://runs/mine"), tmp_path / "out" / name
    expected = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found = store.files(f"s3://runs/mine/{name}")
    assert found.keys() == {each for each in expected if not each.startswith("official/")}
    for each in found:
        if each.startswith(("images/", "predictions/", "run.json")):
            assert store.read(f"s3://runs/mine/{name}/{each}") == (folder / each).read_bytes(), each
    assert store.files("s3://runs/mine").keys() == {f"{name}/{each}" for each in found}
