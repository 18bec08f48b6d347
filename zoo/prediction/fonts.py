"""Fonts for texts in pictures: Pillow's own where it has all letters, else one that the machine has."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.files.progress import say

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_OF_MATPLOTLIB = "mpl-data/fonts/ttf/DejaVuSans.ttf"
"""Latin with all accents, Greek, Cyrillic, Arabic and more; cityscapesscripts needs matplotlib."""

_OF_SYSTEMS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "DroidSansFallbackFull.ttf"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf"),
    *("Arial Unicode.ttf", "PingFang.ttc", "AppleSDGothicNeo.ttc"),
    *("msyh.ttc", "malgun.ttf", "meiryo.ttc", "Nirmala.ttf", "LeelawUI.ttf", "segoeui.ttf"),
)
"""Files on Linux, macOS and Windows, which Pillow finds by their names."""

_TRIED_PX = 20


def can_draw(name: str) -> bool:
    """Returns whether any font has all letters of a class's name; says once where none has."""
    return font_file(name) is not None or _said_missing(name)


@lru_cache(maxsize=4096)
def font_file(text: str) -> str | None:
    """Returns the file of a font that has all letters of a text, "" for Pillow's own, None where none has."""
    return next((file for file in _files() if _has_letters(file, text)), None)


@lru_cache(maxsize=64)
def font(file: str, letters_px: int) -> FreeTypeFont:
    """Returns the font of a file, "" for Pillow's own; raises an OSError where it is not there."""
    from PIL import ImageFont

    found: Any = ImageFont.truetype(file, letters_px) if file else ImageFont.load_default(letters_px)
    return found


@lru_cache(maxsize=1)
def _files() -> tuple[str, ...]:
    """Returns the files that are there, of those that are known, after Pillow's own font."""
    matplotlib = find_spec("matplotlib")
    given = [str(Path(matplotlib.origin).parent / _OF_MATPLOTLIB)] if matplotlib and matplotlib.origin else []
    return ("", *filter(_is_there, (*given, *_OF_SYSTEMS)))


def _is_there(file: str) -> bool:
    try:
        font(file, _TRIED_PX)
    except OSError:
        return False
    return True


def _has_letters(file: str, text: str) -> bool:
    tried = font(file, _TRIED_PX)

    def drawn(letter: str) -> tuple[Any, bytes]:
        mask = tried.getmask(letter)
        return mask.size, bytes(mask)

    # Fonts draw the same box for each letter that they lack; the last code point is no letter.
    box = drawn("\U0010ffff")
    return all(letter.isspace() or drawn(letter) != box for letter in text)


@lru_cache(maxsize=4096)
def _said_missing(name: str) -> bool:
    say(
        f"no font here has all letters of the class {name!r}: overlays show its `class_id` instead; install "
        "one, as the package fonts-noto-cjk for Chinese, Japanese and Korean"
    )
    return False
