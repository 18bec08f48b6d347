"""Recognises predictions in JSON files: segments of panoptic maps, and lists of instances."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from zoo.repro.predictions.finding import Finding, FindingError
from zoo.repro.predictions.naming import ClassIds
from zoo.repro.predictions.panoptic_json import annotations_of, parse_json, read_entries
from zoo.repro.predictions.panoptic_maps import PanopticMaps
from zoo.repro.predictions.scored_masks import RunLengths

if TYPE_CHECKING:
    from zoo.repro.predictions.naming import ImageNames
    from zoo.repro.predictions.storage import Storage


class JsonForms:
    """What the JSON files hold.

    Attributes:
      panoptic: segments of panoptic maps; None where there are none.
      instances: lists of instances; None where there are none.
      lists_segments: whether there is a file of segments, of whatever images.
      findings: what is wrong with the files.
      unknown: images that the data set does not have, by file.
    """

    def __init__(self, storage: Storage, names: ImageNames, ids: ClassIds) -> None:
        self.panoptic: PanopticMaps | None = None
        self.instances: RunLengths | None = None
        self.lists_segments = False
        self.findings: list[Finding] = []
        self.unknown: dict[str, list[str]] = {}
        self._storage = storage
        self._names = names
        self._ids = ids

    def read(self, form: str | None, pictures: set[str]) -> None:
        """Reads all JSON files, and takes from `pictures` those that belong to them.

        Raises:
          FindingError: there are two files of segments.
        """
        files = [name for name in self._storage.names if name.endswith(".json")]
        single = {name: self._parse(name) for name in files if self._names.of_file(name) is not None}
        whole = {name: self._parse(name) for name in files if name not in single}
        panoptic = {name: content for name, content in whole.items() if annotations_of(content) is not None}
        if not panoptic:
            panoptic = self._join(single)
        self.lists_segments = bool(panoptic)
        if len(panoptic) > 1:
            title, found = str(self._storage.path), " and ".join(sorted(panoptic))
            finding = Finding("json-twice", title, "one panoptic JSON", found, "give one of these files")
            raise FindingError(finding)
        if form != "instances":
            for name, content in panoptic.items():
                self._take_panoptic(name, content, pictures)
        if form != "coco":
            self._take_instances(whole, single)

    def _parse(self, name: str) -> Any:
        content, findings = parse_json(self._storage.read(name), self._storage.title(name))
        self.findings += findings
        return content

    def _join(self, single: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the content of a JSON file that lists what files of one image each do."""
        rows, folder = [], ""
        for name, content in single.items():
            if isinstance(content, dict) and "segments_info" in content:
                rows.append(content)
                folder = str(PurePosixPath(name).parent)
                # A run names images, and its joined file numbers them.
                image_id = self._names.of_file(name)
                if image_id is not None and content.get("image_id") == image_id:
                    content["image_id"] = self._names.official(image_id)
        return {f"{folder}.json": {"annotations": rows}} if rows else {}

    def _take_panoptic(self, name: str, content: Any, pictures: set[str]) -> None:
        title = self._storage.title(name)
        read = read_entries(content, title, self._names)
        maps = PanopticMaps(self._storage, name, read, self._names, self._ids)
        self.findings += maps.findings
        for image_id in sorted(read.entries.keys() - set(maps.image_ids)):
            file = read.entries[image_id].file_name
            what = f"a PNG file {file} beside {PurePosixPath(name).name} or in its folder"
            finding = Finding("file-missing", title, what, "none", "write it", image_id=image_id)
            self.findings.append(finding)
        taken = set(maps.files)
        for file in sorted(pictures - taken):
            if str(PurePosixPath(file).parent) in maps.folders:
                self._note_unlisted(file, read.entries, title)
                taken.add(file)
        pictures -= taken
        self.panoptic = maps if maps.image_ids else None
        self.unknown[title] = read.unknown

    def _note_unlisted(self, file: str, entries: Collection[str], title: str) -> None:
        image_id, name = self._names.of_file(file), self._storage.title(file)
        if image_id is None or image_id in entries:
            expected = f"a file that {PurePosixPath(title).name} lists"
            remedy = "remove it; it is not scored"
            finding = Finding("file-unknown", name, expected, "another file", remedy, blocks=False)
        else:
            remedy = "add its entry, or remove the file"
            expected = f"an entry in {title}"
            finding = Finding("entry-missing", name, expected, "none", remedy, image_id=image_id)
        self.findings.append(finding)

    def _take_instances(self, whole: Mapping[str, Any], single: Mapping[str, Any]) -> None:
        masks = RunLengths(self._storage, self._ids)
        # Where an image has no instances, its list does not tell what it is of.
        folders = {PurePosixPath(name).parent for name, content in single.items() if _is_results(content)}
        images = {
            name: self._names.of_file(name) or ""
            for name, content in single.items()
            if isinstance(content, list) and PurePosixPath(name).parent in folders
        }
        lists = [name for name, content in whole.items() if _is_results(content)]
        if images:
            for name, image_id in images.items():
                masks.add(name, single[name], lambda _, image_id=image_id: image_id)
            masks.complete(images.values(), next(iter(images)))
        elif lists:
            for name in lists:
                self._take_list(masks, name, whole[name])
            # A list of instances says nothing of images without any.
            masks.complete(self._names.image_ids, lists[0])
        else:
            return
        self.findings += masks.findings
        self.instances = masks

    def _take_list(self, masks: RunLengths, name: str, content: list[Any]) -> None:
        """Takes a list of the instances of many images."""
        title = self._storage.title(name)
        inexact: dict[str, Any] = {}
        unknown: dict[str, None] = {}

        def image_of(entry: Any) -> str | None:
            given = entry.get("image_id") if isinstance(entry, dict) else None
            image_id = self._names.exactly(given)
            if image_id is None and given is not None:
                image_id = self._names.of_text(str(given))
                if image_id is None:
                    unknown[str(given)] = None
                else:
                    inexact.setdefault(image_id, given)
            return image_id

        masks.add(name, content, image_of)
        self.unknown[title] = list(unknown)
        for image_id, given in inexact.items():
            expected = f"the image_id {self._names.official(image_id)!r}"
            masks.findings.append(Finding("image-id", title, expected, repr(given), image_id=image_id))


def _is_results(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "segmentation" in first
