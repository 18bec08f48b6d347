"""Draws street scenes in the Cityscapes folder layout, of any size and number.

    python bench/draw_scenes.py OUT --count 30 --height 1024 --width 2048 --seed 1

The bundled data set was drawn like this at 256 x 512. Scenes hold all 19 classes, groups (crowd), and void.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

# name: (label id, base colour in RGB)
STUFF = {
    "road": (7, (96, 90, 96)),
    "sidewalk": (8, (170, 150, 165)),
    "building": (11, (120, 105, 95)),
    "wall": (12, (130, 130, 150)),
    "fence": (13, (150, 120, 100)),
    "pole": (17, (140, 140, 140)),
    "traffic light": (19, (60, 60, 40)),
    "traffic sign": (20, (210, 200, 40)),
    "vegetation": (21, (70, 110, 50)),
    "terrain": (22, (130, 170, 90)),
    "sky": (23, (150, 185, 225)),
}
THINGS = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
THING_SHARES = {
    "car": 0.38,
    "person": 0.3,
    "bicycle": 0.1,
    "motorcycle": 0.07,
    "truck": 0.06,
    "bus": 0.05,
    "train": 0.04,
}
CAR_COLOURS = [[180, 30, 30], [30, 40, 160], [220, 220, 225], [25, 25, 28], [120, 125, 130]]
VEHICLES = {  # width and height in units of the scale, colour
    "car": (1.9, 1.0, None),
    "truck": (2.4, 1.9, (225, 225, 215)),
    "bus": (3.2, 2.0, (230, 180, 30)),
    "train": (4.5, 2.2, (30, 120, 140)),
}


class Canvas:
    """An image with its label ids and instance ids, painted mask by mask, far to near."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.height, self.width, self.rng = height, width, rng
        self.image = np.zeros((height, width, 3), np.float32)
        self.label_ids = np.zeros((height, width), np.int32)
        self.instance_ids = np.zeros((height, width), np.int32)
        self._next_instance = dict.fromkeys(THINGS.values(), 0)
        self._light = rng.uniform(0.75, 1.2)
        coarse = rng.normal(size=(height // 8 + 1, width // 8 + 1, 3)).astype(np.float32)
        self._noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    def paint(self, mask, label_id, colour, instance_id=None, roughness=8.0, texture=None) -> None:
        mask = mask.astype(bool)
        values = np.asarray(colour, np.float32) * self._light + roughness * self._noise[mask]
        if texture is not None:
            values = values + texture[mask][:, None]
        self.image[mask] = values
        self.label_ids[mask] = label_id
        self.instance_ids[mask] = label_id if instance_id is None else instance_id

    def stuff(self, mask, name, roughness=8.0, texture=None) -> None:
        label_id, colour = STUFF[name]
        self.paint(mask, label_id, colour, None, roughness, texture)

    def instance_id(self, name: str) -> int:
        label_id = THINGS[name]
        self._next_instance[label_id] += 1
        return label_id * 1000 + self._next_instance[label_id] - 1

    def polygon(self, *points):
        mask = np.zeros((self.height, self.width), np.uint8)
        return cv2.fillPoly(mask, [np.round(np.asarray(points)).astype(np.int32)], 1)

    def box(self, left, top, right, bottom):
        return self.polygon((left, top), (right, top), (right, bottom), (left, bottom))

    def ellipse(self, x, y, radius_x, radius_y):
        mask = np.zeros((self.height, self.width), np.uint8)
        axes = (max(1, round(radius_x)), max(1, round(radius_y)))
        return cv2.ellipse(mask, (round(x), round(y)), axes, 0, 0, 360, 1, -1)


def draw_vehicle(canvas: Canvas, name: str, x: float, y: float, scale: float, crowd: bool) -> None:
    width, height, colour = VEHICLES[name]
    width, height = width * scale, height * scale
    if colour is None:
        colour = canvas.rng.choice(CAR_COLOURS)
    colour = np.float32(colour) * np.float32(canvas.rng.uniform(0.85, 1.1))
    label_id = THINGS[name]
    instance = label_id if crowd else canvas.instance_id(name)
    if name == "car":
        body = canvas.box(x - width / 2, y - height * 0.6, x + width / 2, y - height * 0.12)
        window = canvas.polygon(
            (x - width * 0.32, y - height * 0.6),
            (x - width * 0.2, y - height),
            (x + width * 0.2, y - height),
            (x + width * 0.34, y - height * 0.6),
        )
        body = body | window
    else:
        body = canvas.box(x - width / 2, y - height, x + width / 2, y - height * 0.1)
        left, right, bottom = (0.25, 0.48, 0.48) if name == "truck" else (-0.45, 0.45, 0.6)
        window = canvas.box(x + width * left, y - height * 0.83, x + width * right, y - height * bottom)
    radius = 0.16 * height
    wheels = canvas.ellipse(x - width * 0.3, y - height * 0.1, radius, radius)
    wheels = wheels | canvas.ellipse(x + width * 0.3, y - height * 0.1, radius, radius)
    canvas.paint(body, label_id, colour, instance)
    canvas.paint(window & body, label_id, (50, 65, 80), instance, 4)
    canvas.paint(wheels, label_id, (20, 20, 20), instance, 2)


def draw_person(canvas: Canvas, x: float, y: float, height: float, name: str, crowd: bool = False) -> None:
    label_id = THINGS[name]
    instance = label_id if crowd else canvas.instance_id(name)
    coat, trousers = canvas.rng.uniform(30, 230, 3), canvas.rng.uniform(20, 120, 3)
    legs = canvas.box(x - 0.12 * height, y - 0.48 * height, x + 0.12 * height, y)
    canvas.paint(legs, label_id, trousers, instance, 3)
    canvas.paint(
        canvas.ellipse(x, y - 0.62 * height, 0.16 * height, 0.24 * height), label_id, coat, instance, 3
    )
    head = canvas.ellipse(x, y - 0.91 * height, 0.085 * height, 0.1 * height)
    canvas.paint(head, label_id, (205, 160, 130), instance, 3)


def draw_two_wheeler(canvas: Canvas, x: float, y: float, height: float, name: str, ridden: bool) -> None:
    thickness = max(1, round(height * (0.05 if name == "bicycle" else 0.12)))
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    hubs = [(int(x + side * 0.35 * height), int(y - 0.25 * height)) for side in (-1, 1)]
    for hub in hubs:
        cv2.circle(mask, hub, max(2, int(0.25 * height)), 1, thickness)
        cv2.line(mask, hub, (int(x), int(y - 0.6 * height)), 1, thickness)
    if name == "motorcycle":
        mask |= canvas.ellipse(x, y - 0.38 * height, 0.38 * height, 0.2 * height)
    colour = (40, 40, 45) if name == "bicycle" else (150, 20, 25)
    canvas.paint(mask, THINGS[name], colour, canvas.instance_id(name), 3)
    if ridden:
        draw_person(canvas, x, y - 0.3 * height, height * 1.05, "rider")


def draw_background(canvas: Canvas, horizon: float, vanishing_x: float, road: float, sidewalk: float) -> None:
    height, width, rng, unit = canvas.height, canvas.width, canvas.rng, canvas.height / 256
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    canvas.stuff(np.ones((height, width)), "sky", 5, rows / height * 40)
    windows = -35.0 * (((columns // (7 * unit)) % 2 == 0) & ((rows // (9 * unit)) % 2 == 0))
    x = 0.0
    while x < width:
        house = rng.uniform(35, 95) * unit
        if rng.random() < 0.82:
            tint = np.float32(STUFF["building"][1]) * rng.uniform(0.75, 1.35) + rng.uniform(-15, 15, 3)
            mask = canvas.box(x, horizon - rng.uniform(15, 95) * unit, x + house, horizon + 12 * unit)
            canvas.paint(mask, STUFF["building"][0], tint, None, 6, windows)
        x += house
    canvas.stuff(canvas.box(0, horizon, width, height), "terrain", 10)
    for name, near, far in (("sidewalk", road + sidewalk, 12 * unit), ("road", road, 7 * unit)):
        corners = (
            (vanishing_x - far, horizon),
            (vanishing_x + far, horizon),
            (vanishing_x + near, height),
            (vanishing_x - near, height),
        )
        canvas.stuff(canvas.polygon(*corners), name, 5)
    for t in np.linspace(0.15, 0.95, 6):
        y, half = horizon + t * (height - horizon), 1.5 * t * unit
        mark = canvas.box(vanishing_x - half, y, vanishing_x + half, y + 8 * t * unit)
        canvas.paint(mark, STUFF["road"][0], (225, 225, 215), None, 3)
    if rng.random() < 0.5:
        side, name = rng.choice([-1, 1]), str(rng.choice(["wall", "fence"]))
        near, far = rng.uniform(30, 60) * unit, rng.uniform(120, 220) * unit
        left, right = sorted((vanishing_x + side * near, vanishing_x + side * far))
        slats = -40.0 * ((columns // (3 * unit)) % 2 == 0) if name == "fence" else None
        canvas.stuff(canvas.box(left, horizon - 12 * unit, right, horizon + 12 * unit), name, 4, slats)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, width), horizon - rng.uniform(-4, 24) * unit
        tree = np.zeros((height, width), np.uint8)
        for _ in range(6):
            tree |= canvas.ellipse(
                x + rng.normal() * 12 * unit,
                y + rng.normal() * 8 * unit,
                rng.uniform(8, 20) * unit,
                rng.uniform(8, 16) * unit,
            )
        canvas.stuff(tree, "vegetation", 16)
    for _ in range(rng.integers(1, 5)):
        draw_pole(canvas, rng.uniform(0, width), rng.uniform(0.1, 0.5), horizon)


def draw_pole(canvas: Canvas, x: float, nearness: float, horizon: float) -> None:
    unit = canvas.height / 256
    base = horizon + nearness * (canvas.height - horizon)
    top = base - (40 + 130 * nearness) * unit
    half, size = max(1.0, (1.2 + 2.5 * nearness) * unit), (5 + 12 * nearness) * unit
    canvas.stuff(canvas.box(x - half, top, x + half, base), "pole", 3)
    kind = canvas.rng.random()
    if kind < 0.4:
        canvas.stuff(canvas.box(x - size * 0.6, top, x + size * 0.6, top + 2.2 * size), "traffic light", 3)
        lamp = canvas.ellipse(x, top + size * 0.5, size * 0.35, size * 0.35)
        canvas.paint(lamp, STUFF["traffic light"][0], (230, 40, 30), None, 2)
    elif kind < 0.8:
        canvas.stuff(canvas.ellipse(x, top + size, size, size), "traffic sign", 3)


def draw_scene(height: int, width: int, rng: np.random.Generator, things: tuple[int, int]):
    """Returns image [H, W, 3] uint8 RGB, label ids [H, W] uint8, instance ids [H, W] uint16."""
    canvas, unit = Canvas(height, width, rng), height / 256
    horizon, vanishing_x = rng.uniform(0.36, 0.46) * height, rng.uniform(0.4, 0.6) * width
    road, sidewalk = rng.uniform(0.5, 0.75) * width, rng.uniform(0.12, 0.22) * width
    draw_background(canvas, horizon, vanishing_x, road, sidewalk)
    names, shares = list(THING_SHARES), list(THING_SHARES.values())
    drawn = [
        (rng.uniform(0.08, 0.8) ** 1.2, str(rng.choice(names, p=shares)))
        for _ in range(rng.integers(*things))
    ]
    for nearness, name in sorted(drawn):
        y = horizon + (0.06 + nearness * 0.9) * (height - horizon)
        x = vanishing_x + rng.uniform(-1, 1) * (12 * unit + nearness * (road + sidewalk))
        if name in VEHICLES:
            draw_vehicle(canvas, name, x, y, (9 + 50 * nearness) * unit, crowd=rng.random() < 0.04)
        elif name == "person":
            draw_person(canvas, x, y, (20 + 80 * nearness) * unit, name, crowd=rng.random() < 0.05)
        else:
            draw_two_wheeler(canvas, x, y, (14 + 48 * nearness) * unit, name, rng.random() < 0.5)
    ego = canvas.ellipse(width * 0.5, height * 1.05, width * 0.32, height * 0.11)
    canvas.paint(ego, 1, (28, 28, 30), None, 2)
    image = canvas.image + rng.normal(size=(height, width, 1)).astype(np.float32) * 2.0
    image = cv2.GaussianBlur(np.clip(image, 0, 255), (3, 3), 0.6)
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return image, canvas.label_ids.astype(np.uint8), canvas.instance_ids.astype(np.uint16)


def draw_dataset(
    out: Path,
    *,
    count: int,
    height: int,
    width: int,
    seed: int = 0,
    split: str = "val",
    city: str = "frankfurt",
    things: tuple[int, int] = (5, 16),
) -> None:
    """Draws `count` scenes with `things[0]` to `things[1] - 1` things each into `out`."""
    images, truth = out / "leftImg8bit" / split / city, out / "gtFine" / split / city
    images.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        image, label_ids, instance_ids = draw_scene(height, width, rng, things)
        name = f"{city}_{index:06d}_000019"
        cv2.imwrite(str(images / f"{name}_leftImg8bit.png"), image[..., ::-1])
        cv2.imwrite(str(truth / f"{name}_gtFine_labelIds.png"), label_ids)
        cv2.imwrite(str(truth / f"{name}_gtFine_instanceIds.png"), instance_ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="val")
    parser.add_argument("--city", default="frankfurt")
    draw_dataset(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
