"""The categories of COCO panoptic segmentation, and those of any data set in its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StrictBool

from zoo.errors import DataError
from zoo.registry.dataset_info import DatasetInfo

# Category ids, names and colours as in `panoptic_coco_categories.json` of panopticapi: facts of the data set.
_THINGS = (
    "1 person dc143c, 2 bicycle 770b20, 3 car 00008e, 4 motorcycle 0000e6, 5 airplane 6a00e4, "
    "6 bus 003c64, 7 train 005064, 8 truck 000046, 9 boat 0000c0, 10 traffic light faaa1e, "
    "11 fire hydrant 64aa1e, 13 stop sign dcdc00, 14 parking meter af74af, 15 bench fa001e, "
    "16 bird a52a2a, 17 cat ff4dff, 18 dog 00e2fc, 19 horse b6b6ff, 20 sheep 005200, 21 cow 78a69d, "
    "22 elephant 6e4c00, 23 bear ae39ff, 24 zebra c76400, 25 giraffe 480076, 27 backpack ffb3f0, "
    "28 umbrella 007d5c, 31 handbag d10097, 32 tie bcd0b6, 33 suitcase 00dcb0, 34 frisbee ff63a4, "
    "35 skis 5c0049, 36 snowboard 8581ff, 37 sports ball 4eb4ff, 38 kite 00e400, 39 baseball bat aefff3, "
    "40 baseball glove 2d59ff, 41 skateboard 868667, 42 surfboard 9194ae, 43 tennis racket ffd0ba, "
    "44 bottle c5e2ff, 46 wine glass ab8601, 47 cup 6d3f36, 48 fork cf8aff, 49 knife 97005f, "
    "50 spoon 09503d, 51 bowl 546933, 52 banana 4a4169, 53 apple a6c466, 54 sandwich d0c3d2, "
    "55 orange ff6d41, 56 broccoli 008f95, 57 carrot b300c2, 58 hot dog d1636a, 59 pizza 057900, "
    "60 donut e3ffcd, 61 cake 93bad0, 62 chair 994501, 63 couch 035fa1, 64 potted plant a3ff00, "
    "65 bed 7700aa, 67 dining table 00b6c7, 70 toilet 00a578, 72 tv b78258, 73 laptop 5f2000, "
    "74 mouse 827287, 75 remote 6e8185, 76 keyboard a64a76, 77 cell phone db8eb9, 78 microwave 4fd272, "
    "79 oven b25a3e, 80 toaster 41460f, 81 sink 7fa773, 82 refrigerator 3b696a, 84 book 8e6c2d, "
    "85 clock c4ac00, 86 vase 5f3650, 87 scissors 804cff, 88 teddy bear c93901, 89 hair drier f6007a, "
    "90 toothbrush bfa2d0"
)
_STUFF = (
    "92 banner ffff80, 93 blanket 93d3cb, 95 bridge 966464, 100 cardboard a8abac, 107 counter 9270c6, "
    "109 curtain d2aa64, 112 door-stuff 5c8859, 118 floor-wood da58b8, 119 flower f18100, "
    "122 fruit d911ff, 125 gravel 7c4ab5, 128 house 464646, 130 light ffe4ff, 133 mirror-stuff 9ad000, "
    "138 net c1005c, 141 pillow 4c5b71, 144 platform ffb4c3, 145 playingfield 6a9ab0, 147 railroad e6968c, "
    "148 river 3c8fff, 149 road 804080, 151 roof 5c5237, 154 sand fed47c, 155 sea 494dae, "
    "156 shelf ffa062, 159 snow ffffff, 161 stairs 68546d, 166 tent a9a483, 168 towel e1c7ff, "
    "171 wall-brick 89364a, 175 wall-stone 879edf, 176 wall-tile 07f6e7, 177 wall-wood 6bffc8, "
    "178 water-other 3a2995, 180 window-blind b7798e, 181 window-other ff4961, 184 tree-merged 6b8e23, "
    "185 fence-merged be9999, 186 ceiling-merged 928b8d, 187 sky-other-merged 4682b4, "
    "188 cabinet-merged 86c79c, 189 table-merged d1e28c, 190 floor-other-merged 60246c, "
    "191 pavement-merged 606060, 192 mountain-merged 40aa40, 193 grass-merged 98fb98, "
    "194 dirt-merged d0e5e4, 195 paper-merged cebaab, 196 food-other-merged 98a140, "
    "197 building-other-merged 747000, 198 rock-merged 00728f, 199 wall-other-merged 66669c, "
    "200 rug-merged fa8dff"
)


def categories_in(text: str) -> list[tuple[int, str, str]]:
    """Returns id, name and colour of each category in a text such as `1 person dc143c, 2 bicycle 770b20`."""
    rows = [category.split(" ") for category in text.split(", ")]
    return [(int(category_id), " ".join(name), colour) for category_id, *name, colour in rows]


_CATEGORIES = categories_in(_THINGS) + categories_in(_STUFF)
_NUM_THINGS = len(categories_in(_THINGS))

COCO = DatasetInfo(
    name="coco",
    # The network predicts void, train id 0, like any other class; it is never scored.
    num_classes=1 + len(_CATEGORIES),
    class_names=("void", *(name for _, name, _ in _CATEGORIES)),
    thing_class_ids=tuple(range(1, 1 + _NUM_THINGS)),
    label_divisor=256,
    ignore_label=0,
    original_ids=(0, *(category_id for category_id, _, _ in _CATEGORIES)),
    instance_results="rle",
    upstream_name="coco_panoptic",
    colours=("000000", *(colour for _, _, colour in _CATEGORIES)),
)

# More instances of one class than 255 are no rarity elsewhere.
_OWN_DIVISOR = 1000
_MOST_CATEGORIES = 255
_LARGEST_ID = 65534

_Channel = Annotated[int, Field(ge=0, le=255)]


class Category(BaseModel):
    """One category of a panoptic annotation file."""

    id: Annotated[int, Field(ge=0, le=_LARGEST_ID)]
    name: Annotated[str, Field(min_length=1)]
    isthing: StrictBool | Literal[0, 1]
    color: tuple[_Channel, _Channel, _Channel] | None = None


def classes_of_categories(
    categories: Sequence[Category] | None,
    name: str,
    published: DatasetInfo = COCO,
    *,
    names_vary: bool = False,
) -> DatasetInfo:
    """Returns the classes that a panoptic annotation file lists, or the published ones if these are they.

    Train id 0 is void; the categories follow by rising id, whatever their order in the file. A panoptic label
    is train id * 1000 + instance.

    Args:
      categories: as the file lists them; None for no list, which stands for the published ones.
      name: of the file, for error messages.
      published: the classes of the published data set of this form.
      names_vary: whether ids alone tell whether these are the published classes.

    Raises:
      DataError: there are none or too many, or an id or a name appears twice.
    """
    if categories is None:
        return published
    rows = sorted(categories, key=lambda category: category.id)
    if not 0 < len(rows) <= _MOST_CATEGORIES:
        raise DataError(f"{name}: lists {len(rows)} categories, expected 1 to {_MOST_CATEGORIES}")
    for key in ("id", "name"):
        values = [getattr(category, key) for category in rows]
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise DataError(f"{name}: two categories have the {key} {twice[0]!r}; give each its own")
    things = tuple(i for i, category in enumerate(rows, start=1) if category.isthing)
    ids, names = (tuple(getattr(category, key) for category in rows) for key in ("id", "name"))
    same_names = names_vary or names == published.class_names[1:]
    if same_names and (ids, things) == (published.original_ids[1:], published.thing_class_ids):
        return published
    void_id = next(number for number in (0, 255, _LARGEST_ID + 1) if number not in ids)
    colours = ["" if category.color is None else bytes(category.color).hex() for category in rows]
    return DatasetInfo(
        name=published.name,
        num_classes=1 + len(rows),
        class_names=("void" if "void" not in names else "(void)", *names),
        thing_class_ids=things,
        label_divisor=_OWN_DIVISOR,
        ignore_label=0,
        original_ids=(void_id, *ids),
        instance_results="rle",
        colours=("000000", *colours),
        void_ids=(void_id,),
    )
