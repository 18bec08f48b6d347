"""The software that measured: package versions, and a digest of the code that can change a number."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

# Packages whose version can change a number.
_MEASURING_PACKAGES = (
    "panoptic-zoo",
    "tensorflow",
    "keras",
    "numpy",
    "numba",
    "pycocotools",
    "cityscapesscripts",
    "pillow",
)
# Those of them that a run may do without.
_OPTIONAL_PACKAGES = ("simplejpeg",)

# Subpackages whose code can change a number; the command line and the reports only show what was measured.
_MEASURING_CODE = ("files", "registry", "fetch", "runtimes", "network", "model", "metrics", "repro")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of every package that can change a number."""
    found = {"python": platform.python_version()}
    for name in (*_MEASURING_PACKAGES, *_OPTIONAL_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name not in _OPTIONAL_PACKAGES:
                found[name] = "not installed"
    return found


def code_digest(package: str = "zoo") -> str:
    """Returns a digest of the source that can change a number, so that changed code never resumes a run."""
    digest = hashlib.sha256()
    for name in _MEASURING_CODE:
        spec = find_spec(f"{package}.{name}")
        assert spec is not None, name
        assert spec.submodule_search_locations is not None, name
        folder = Path(spec.submodule_search_locations[0])
        sources = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
        for relative, path in sorted(sources.items()):
            content = path.read_bytes()
            digest.update(f"{name}/{relative}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
