"""Draw the places and objects of the miniature at any size; neither depends on the action."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
# Draws on an `ImageDraw` a thing that stands at (x, y); it is scaled to a picture of height s.
Prop = Callable[[Any, float, float, float, np.random.Generator], None]


class Place(NamedTuple):
    """A backdrop: a wall or sky that fades from `top` to `bottom`, a floor, a horizon, and what stands there."""

    top: Colour
    bottom: Colour
    floor: Colour
    horizon: float  # share of the height above the floor
    props: tuple[tuple[Prop, int], ...]  # each with how many there are


def _tree(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    draw.rectangle([x - s * 0.03, y - s * 0.25, x + s * 0.03, y], fill=(100, 70, 45))
    green = (int(rng.integers(30, 80)), int(rng.integers(110, 150)), int(rng.integers(40, 80)))
    for dx, dy, r in ((-0.09, 0.3, 0.1), (0.09, 0.3, 0.1), (0, 0.4, 0.13)):
        draw.ellipse(_around(x + dx * s, y - dy * s, r * s), fill=green)


def _fir(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    green = (20, int(rng.integers(70, 110)), 55)
    for k in range(3):
        w, top = s * (0.15 - 0.035 * k), y - s * (0.25 + 0.13 * k)
        draw.polygon([(x - w, top + s * 0.18), (x + w, top + s * 0.18), (x, top)], fill=green)
    draw.rectangle([x - s * 0.02, y - s * 0.07, x + s * 0.02, y], fill=(80, 55, 40))


def _sun(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    draw.ellipse(_around(x, s * rng.uniform(0.1, 0.2), s * 0.07), fill=(255, 236, 150))


def _cloud(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    top = s * rng.uniform(0.06, 0.25)
    for dx, r in ((-0.08, 0.04), (0, 0.06), (0.08, 0.045)):
        draw.ellipse(_around(x + dx * s, top, r * s), fill=(246, 248, 252))


def _wave(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    draw.rectangle([0, y - s * 0.14, s * 4, y], fill=(60, 140, 190))
    for _ in range(6):
        left = x + s * (rng.uniform(-1.2, 1.2))
        top = y - s * rng.uniform(0.02, 0.12)
        crest = [(left, top), (left + s * 0.12, top)]
        draw.line(crest, fill=(190, 220, 235), width=_thick(s, 0.008))


def _house(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    w, h = s * rng.uniform(0.12, 0.2), s * rng.uniform(0.35, 0.62)
    tone = int(rng.integers(90, 165))
    draw.rectangle([x - w, y - h, x + w, y], fill=(tone, tone - 12, tone - 20))
    for row in np.arange(y - h + s * 0.05, y - s * 0.08, s * 0.1):
        for k in (-0.6, 0.05):
            window = [x + k * w, row, x + (k + 0.5) * w, row + s * 0.05]
            draw.rectangle(window, fill=(235, 225, 160))


def _cupboard(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    for k in (-0.2, 0.02):
        left, right = x + k * s, x + (k + 0.18) * s
        draw.rectangle([left, y - s * 0.28, right, y], fill=(196, 150, 96))
        draw.rectangle([left, y - s * 0.66, right, y - s * 0.48], fill=(214, 172, 118))
    draw.rectangle([x - s * 0.22, y - s * 0.31, x + s * 0.22, y - s * 0.28], fill=(120, 88, 60))


def _rack(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    for k in (0.0, 0.13):
        top = y - s * (0.1 + k)
        bar = [(x - s * 0.2, top), (x + s * 0.2, top)]
        draw.line(bar, fill=(50, 50, 55), width=_thick(s, 0.012))
        for dx in (-0.16, -0.05, 0.06, 0.17):
            draw.ellipse(_around(x + dx * s, top, s * 0.035), fill=(35, 35, 40))


def _mirror(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    draw.rectangle([x - s * 0.2, y - s * 0.62, x + s * 0.2, y - s * 0.3], fill=(188, 214, 222))
    gleam = [(x - s * 0.1, y - s * 0.36), (x + s * 0.06, y - s * 0.58)]
    draw.line(gleam, fill=(224, 238, 242), width=2)


def _curtain(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    red = int(rng.integers(130, 180))
    for k in range(5):
        left = x - s * 0.16 + k * s * 0.065
        shade = red - 35 * (k % 2)
        draw.rectangle([left, 0, left + s * 0.065, y], fill=(shade, 20, 35))


def _lamp(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    beam = [(x, 0), (x - s * 0.14, y + s * 0.05), (x + s * 0.14, y + s * 0.05)]
    draw.polygon(beam, fill=(120, 110, 130))
    draw.ellipse(_around(x, s * 0.02, s * 0.035), fill=(255, 250, 210))


def _desk(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    draw.rectangle([x - s * 0.2, y - s * 0.24, x + s * 0.2, y - s * 0.21], fill=(140, 110, 80))
    for dx in (-0.18, 0.16):
        draw.rectangle([x + dx * s, y - s * 0.21, x + (dx + 0.02) * s, y], fill=(90, 90, 95))
    draw.rectangle([x - s * 0.09, y - s * 0.4, x + s * 0.09, y - s * 0.26], fill=(40, 44, 52))
    draw.rectangle([x - s * 0.08, y - s * 0.39, x + s * 0.08, y - s * 0.27], fill=(110, 170, 210))


def _bed(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    tone = tuple(int(c) for c in rng.integers(110, 210, 3))
    draw.rectangle([x - s * 0.27, y - s * 0.3, x - s * 0.24, y], fill=(110, 76, 50))
    draw.rectangle([x - s * 0.24, y - s * 0.14, x + s * 0.27, y - s * 0.02], fill=tone)
    draw.ellipse([x - s * 0.23, y - s * 0.2, x - s * 0.08, y - s * 0.12], fill=(245, 245, 240))


def _window(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    box = [x - s * 0.12, y - s * 0.66, x + s * 0.12, y - s * 0.38]
    draw.rectangle(box, fill=(170, 210, 236), outline=(250, 250, 250), width=_thick(s, 0.015))
    draw.line([(x, box[1]), (x, box[3])], fill=(250, 250, 250), width=_thick(s, 0.012))


def _cactus(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    green, w = (60, 130, 70), _thick(s, 0.045)
    draw.line([(x, y), (x, y - s * 0.34)], fill=green, width=w)
    for side, at in ((-1, 0.14), (1, 0.2)):
        elbow = (x + side * s * 0.09, y - s * at)
        draw.line([(x, y - s * at), elbow], fill=green, width=w)
        draw.line([elbow, (elbow[0], elbow[1] - s * 0.1)], fill=green, width=w)


def _hoop(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    draw.line([(x, y), (x, y - s * 0.55)], fill=(70, 70, 75), width=_thick(s, 0.02))
    draw.rectangle([x - s * 0.1, y - s * 0.68, x + s * 0.1, y - s * 0.5], fill=(240, 240, 240))
    ring = [x - s * 0.05, y - s * 0.54, x + s * 0.05, y - s * 0.51]
    draw.ellipse(ring, outline=(230, 90, 30), width=_thick(s, 0.012))


def _shelf(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    draw.rectangle([x - s * 0.17, y - s * 0.64, x + s * 0.17, y], fill=(104, 70, 44))
    for row in range(3):
        low = y - s * (0.06 + 0.2 * row)
        for k in range(6):
            colour = tuple(int(c) for c in rng.integers(60, 220, 3))
            left = x - s * 0.15 + k * s * 0.05
            draw.rectangle([left, low - s * 0.13, left + s * 0.04, low], fill=colour)


def _fence(draw: Any, x: float, y: float, s: float, rng: np.random.Generator) -> None:
    for k in range(-12, 13):
        left = x + k * s * 0.1
        draw.rectangle([left, y - s * 0.2, left + s * 0.04, y], fill=(228, 220, 205))
    draw.rectangle([0, y - s * 0.14, s * 4, y - s * 0.11], fill=(214, 206, 190))


PLACES: dict[str, Place] = {
    "park": Place((135, 195, 235), (205, 230, 240), (105, 165, 80), 0.7, ((_cloud, 2), (_tree, 3))),
    "beach": Place((120, 190, 240), (215, 235, 245), (232, 208, 150), 0.72, ((_sun, 1), (_wave, 1))),
    "street": Place((170, 190, 210), (215, 215, 215), (110, 112, 118), 0.74, ((_house, 4),)),
    "kitchen": Place((250, 240, 215), (245, 228, 195), (205, 190, 170), 0.76, ((_cupboard, 2),)),
    "gym": Place((165, 178, 190), (150, 165, 180), (70, 90, 130), 0.74, ((_mirror, 2), (_rack, 2))),
    "stage": Place((45, 30, 60), (75, 45, 85), (150, 100, 60), 0.76, ((_lamp, 2), (_curtain, 2))),
    "forest": Place((60, 105, 80), (95, 140, 100), (85, 80, 50), 0.72, ((_fir, 7),)),
    "snow": Place((190, 205, 225), (225, 232, 242), (244, 247, 252), 0.68, ((_cloud, 2), (_fir, 2))),
    "bedroom": Place((205, 185, 215), (190, 170, 205), (160, 120, 90), 0.75, ((_window, 1), (_bed, 1))),
    "office": Place((225, 228, 230), (212, 216, 220), (130, 138, 148), 0.75, ((_window, 2), (_desk, 2))),
    "desert": Place((250, 205, 140), (252, 226, 180), (222, 176, 108), 0.68, ((_sun, 1), (_cactus, 3))),
    "court": Place((150, 200, 225), (190, 215, 225), (196, 104, 66), 0.72, ((_fence, 1), (_hoop, 1))),
    "library": Place((190, 165, 130), (176, 150, 116), (120, 82, 56), 0.77, ((_shelf, 3),)),
}  # fmt: skip


def draw_place(name: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw the backdrop of a place, RGB of (width, height) pixels, with shades and positions that come from `rng`."""
    place, (width, height) = PLACES[name], size
    shift = rng.integers(-12, 13, 3)
    top, bottom, floor = (np.clip(np.add(colour, shift), 0, 255) for colour in place[:3])
    horizon = int(height * np.clip(place.horizon + rng.normal(0, 0.015), 0.6, 0.85))
    fade = np.linspace(0, 1, horizon)[:, None]
    ground = np.linspace(0.86, 1.08, height - horizon)[:, None]
    rows = np.concatenate([top + (bottom - top) * fade, np.clip(floor * ground, 0, 255)])
    picture = np.broadcast_to(rows[:, None, :], (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(picture))
    draw = ImageDraw.Draw(image)
    for prop, n in place.props:
        # They are spread over the width, so that the person never hides all of them.
        for k in range(n):
            x = width * (k + rng.uniform(0.1, 0.9)) / n
            prop(draw, x, horizon + height * 0.01, height * rng.uniform(0.85, 1.1), rng)
    return image


COLOURS: dict[str, Colour] = {
    "red": (215, 45, 40),
    "blue": (45, 85, 205),
    "green": (45, 150, 65),
    "yellow": (240, 205, 45),
    "orange": (240, 130, 35),
    "purple": (130, 60, 165),
    "white": (245, 245, 245),
    "black": (35, 35, 40),
}


def _ball(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.ellipse(_around(x, y, s * 0.5), fill=colour, outline=_dark(colour), width=_thick(s, 0.08))
    draw.arc(_around(x - s * 0.25, y, s * 0.5), -60, 60, fill=_dark(colour), width=_thick(s, 0.08))


def _balloon(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.line([(x, y), (x, y + s * 1.3)], fill=(70, 70, 70), width=_thick(s, 0.05))
    draw.ellipse([x - s * 0.5, y - s * 0.75, x + s * 0.5, y + s * 0.5], fill=colour)
    draw.ellipse([x - s * 0.25, y - s * 0.55, x - s * 0.05, y - s * 0.3], fill=(255, 255, 255))


def _umbrella(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.line([(x, y - s * 0.7), (x, y + s * 0.75)], fill=(60, 50, 45), width=_thick(s, 0.1))
    draw.pieslice([x - s, y - s, x + s, y + s * 0.7], 180, 360, fill=colour)
    draw.line([(x, y - s), (x, y - s * 0.2)], fill=_dark(colour), width=_thick(s, 0.06))


def _guitar(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.line([(x, y), (x + s * 0.95, y - s * 0.75)], fill=(80, 50, 30), width=_thick(s, 0.16))
    draw.ellipse(_around(x - s * 0.3, y + s * 0.2, s * 0.48), fill=colour)
    draw.ellipse(_around(x + s * 0.08, y - s * 0.08, s * 0.33), fill=colour)
    draw.ellipse(_around(x - s * 0.12, y + s * 0.06, s * 0.16), fill=(40, 25, 20))


def _book(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    for side in (-1, 1):
        draw.polygon(
            [(x, y - s * 0.4), (x + side * s * 0.6, y - s * 0.55),
             (x + side * s * 0.6, y + s * 0.35), (x, y + s * 0.5)],
            fill=(250, 248, 235), outline=colour, width=_thick(s, 0.13),
        )  # fmt: skip


def _bottle(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.rectangle([x - s * 0.24, y - s * 0.2, x + s * 0.24, y + s * 0.8], fill=colour)
    draw.rectangle([x - s * 0.1, y - s * 0.65, x + s * 0.1, y - s * 0.2], fill=_dark(colour))
    draw.rectangle([x - s * 0.24, y + s * 0.1, x + s * 0.24, y + s * 0.45], fill=(250, 250, 250))


def _broom(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.line([(x, y - s * 1.1), (x, y + s * 0.5)], fill=(150, 105, 60), width=_thick(s, 0.12))
    draw.polygon(
        [(x - s * 0.15, y + s * 0.45), (x + s * 0.15, y + s * 0.45),
         (x + s * 0.42, y + s * 1.05), (x - s * 0.42, y + s * 1.05)],
        fill=colour,
    )  # fmt: skip


def _bag(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.arc(_around(x, y - s * 0.1, s * 0.34), 180, 360, fill=_dark(colour), width=_thick(s, 0.1))
    draw.polygon(
        [(x - s * 0.45, y), (x + s * 0.45, y), (x + s * 0.6, y + s * 0.8), (x - s * 0.6, y + s * 0.8)],
        fill=colour,
    )  # fmt: skip


def _kite(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    tail = [(x, y + s * 0.7), (x + s * 0.2, y + s), (x - s * 0.1, y + s * 1.25)]
    draw.line(tail, fill=_dark(colour), width=_thick(s, 0.08))
    corners = [(x, y - s * 0.8), (x + s * 0.5, y), (x, y + s * 0.7), (x - s * 0.5, y)]
    draw.polygon(corners, fill=colour)
    draw.line([corners[0], corners[2]], fill=(255, 255, 255), width=_thick(s, 0.07))
    draw.line([corners[1], corners[3]], fill=(255, 255, 255), width=_thick(s, 0.07))


def _crate(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.rectangle([x - s * 0.5, y - s * 0.5, x + s * 0.5, y + s * 0.5], fill=colour)
    draw.rectangle([x - s * 0.1, y - s * 0.5, x + s * 0.1, y + s * 0.5], fill=(250, 235, 190))
    draw.rectangle([x - s * 0.5, y - s * 0.1, x + s * 0.5, y + s * 0.1], fill=(250, 235, 190))


def _racket(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.line([(x, y), (x + s * 0.35, y + s * 1.0)], fill=(90, 60, 40), width=_thick(s, 0.14))
    oval = [x - s * 0.5, y - s * 0.95, x + s * 0.35, y + s * 0.2]
    draw.ellipse(oval, fill=(232, 232, 220), outline=colour, width=_thick(s, 0.15))


def _flag(draw: Any, x: float, y: float, s: float, colour: Colour) -> None:
    draw.line([(x, y + s * 0.9), (x, y - s * 1.0)], fill=(110, 90, 70), width=_thick(s, 0.1))
    draw.polygon(
        [(x, y - s), (x + s * 1.1, y - s * 0.8), (x + s * 0.95, y - s * 0.5),
         (x + s * 1.1, y - s * 0.15), (x, y - s * 0.2)],
        fill=colour,
    )  # fmt: skip


OBJECTS: dict[str, Callable[[Any, float, float, float, Colour], None]] = {
    "ball": _ball,
    "balloon": _balloon,
    "umbrella": _umbrella,
    "guitar": _guitar,
    "book": _book,
    "bottle": _bottle,
    "broom": _broom,
    "bag": _bag,
    "kite": _kite,
    "crate": _crate,
    "racket": _racket,
    "flag": _flag,
}


def draw_object(draw: Any, name: str, at: Point, size: float, colour: str) -> None:
    """Draw an object with an `ImageDraw` around the point `at`; `size` is about half of its extent in pixels."""
    OBJECTS[name](draw, at[0], at[1], size, COLOURS[colour])


def _around(x: float, y: float, r: float) -> list[float]:
    """Return the box of a circle of radius `r` around (x, y)."""
    return [x - r, y - r, x + r, y + r]


def _dark(colour: Colour) -> Colour:
    red, green, blue = (int(channel * 0.55) for channel in colour)
    return red, green, blue


def _thick(s: float, share: float) -> int:
    """Return the width of a line in pixels, at least 1, as a share of `s`."""
    return max(1, math.ceil(s * share))
