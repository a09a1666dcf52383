"""An articulated person: states of arms, legs and trunk -> joints -> a drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from maxi.miniature.actions import Pose

Point = tuple[float, float]
Colour = tuple[int, int, int]

# Degrees from "down along the trunk"; 90 is to where the person faces, 180 is over the head.
# (near upper arm, near forearm, far upper arm, far forearm)
ARMS: dict[str, tuple[float, float, float, float]] = {
    "up": (160, 172, 200, 188),
    "wave": (150, 165, -8, -4),
    "side": (95, 98, -95, -98),
    "front": (82, 88, 98, 92),
    "hips": (48, -58, -48, 58),
    "head": (122, 248, -122, -248),
    "down": (12, 14, -4, 0),
    "pump": (-45, 50, 45, 140),
    "chest": (38, -142, -38, 142),
}
# How far arms turn with the trunk: 0 keeps them upright in the world.
FOLLOWS = {"up": 0.75, "wave": 0.7, "side": 0.4, "front": 0.35, "down": 0.0, "pump": 0.5}
# (near thigh, near shin, far thigh, far shin)
LEGS: dict[str, tuple[float, float, float, float]] = {
    "straight": (4, 3, -4, -3),
    "wide": (36, 32, -36, -32),
    "squat": (72, -20, -72, 20),
    "lunge": (72, -2, -46, -62),
    "kick": (98, 92, -4, -2),
    "knee": (98, -4, -3, 0),
    "kneel": (4, -86, -6, -92),
    "sit": (84, 90, 78, 96),
    "jump": (42, -42, -42, 42),
}
TRUNK = {"upright": 0.0, "bend": 62.0, "back": -28.0, "lie": -90.0}

TORSO, NECK, HEAD = 0.31, 0.13, 0.085
UPPER_ARM, FOREARM, THIGH, SHIN = 0.165, 0.16, 0.235, 0.235
JOINTS = (
    *("hip", "shoulder", "head", "near elbow", "near hand", "near knee", "near foot"),
    *("far elbow", "far hand", "far knee", "far foot"),
)
HOP = 0.15  # how far a jump lifts the body off the floor


class Build(NamedTuple):
    """What stays with a person: proportions, colours, and a habit of a few degrees per joint."""

    arm: float
    leg: float
    girth: float
    skin: Colour
    hair: Colour
    long_hair: bool
    shirt: Colour
    trousers: Colour
    shoes: Colour
    habit: tuple[float, ...]  # degrees for 4 arm angles, 4 leg angles, trunk


def angles(pose: Pose) -> tuple[float, ...]:
    """World angles in degrees of 4 arm parts, 4 leg parts and the trunk, then the hop."""
    trunk = TRUNK[pose.trunk]
    turn = -trunk  # angles grow from down to front, the trunk leans to the front when positive
    lying = pose.trunk == "lie"
    arms = [a + turn * (1.0 if lying else FOLLOWS.get(pose.arms, 1.0)) for a in ARMS[pose.arms]]
    legs = [a + (turn if lying else 0.0) for a in LEGS[pose.legs]]
    return (*arms, *legs, trunk, HOP if pose.legs == "jump" and not lying else 0.0)


def between(one: tuple[float, ...], two: tuple[float, ...], share: float) -> tuple[float, ...]:
    """Angles on the way from one pose to another."""
    return tuple(a + (b - a) * share for a, b in zip(one, two, strict=True))


def joints(at: tuple[float, ...], build: Build) -> dict[str, Point]:
    """Joint positions, y up, 1 about the body's height; the lowest point is at 0, or at the hop."""
    *limbs, trunk, hop = (*(a + h for a, h in zip(at[:9], build.habit, strict=True)), at[9])
    lean = math.radians(trunk)
    up = (math.sin(lean), math.cos(lean))
    hip = (0.0, 0.0)
    shoulder = (hip[0] + TORSO * up[0], hip[1] + TORSO * up[1])
    nod = (math.sin(lean * 0.8), math.cos(lean * 0.8))
    found = {
        "hip": hip,
        "shoulder": shoulder,
        "head": (shoulder[0] + NECK * nod[0], shoulder[1] + NECK * nod[1]),
    }
    lengths = [UPPER_ARM * build.arm, FOREARM * build.arm, THIGH * build.leg, SHIN * build.leg]
    for k, (side, first, second, root, lower) in enumerate(
        [
            ("near", "elbow", "hand", shoulder, lengths[:2]),
            ("far", "elbow", "hand", shoulder, lengths[:2]),
            ("near", "knee", "foot", hip, lengths[2:]),
            ("far", "knee", "foot", hip, lengths[2:]),
        ]
    ):
        middle = _along(root, limbs[2 * k], lower[0])
        found[f"{side} {first}"] = middle
        found[f"{side} {second}"] = _along(middle, limbs[2 * k + 1], lower[1])
    lowest = min(y for _, y in found.values())
    return {name: (x, y - lowest + hop) for name, (x, y) in found.items()}


def _along(start: Point, degrees: float, length: float) -> Point:
    angle = math.radians(degrees)
    return start[0] + length * math.sin(angle), start[1] - length * math.cos(angle)


def draw_person(
    draw: Any, place: Mapping[str, Point], build: Build, *, scale: float, facing: int
) -> None:
    """Draw a person with an `ImageDraw`; `place` holds the joints in pixels, `scale` the pixels of 1."""
    thick = scale * 0.072 * build.girth

    def limb(side: str, root: str, first: str, second: str, upper: Colour, lower: Colour) -> None:
        shade = 0.72 if side == "far" else 1.0
        line(place[root], place[f"{side} {first}"], _shaded(upper, shade), thick * 1.15)
        line(
            place[f"{side} {first}"], place[f"{side} {second}"], _shaded(lower, shade), thick * 0.9
        )

    def line(a: Point, b: Point, colour: Colour, width: float) -> None:
        draw.line([a, b], fill=colour, width=max(1, round(width)))
        for x, y in (a, b):
            r = width / 2
            draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    def ball(name: str, radius: float, colour: Colour) -> None:
        x, y = place[name]
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)

    limb("far", "shoulder", "elbow", "hand", build.shirt, build.skin)
    ball("far hand", thick * 0.62, _shaded(build.skin, 0.8))
    limb("far", "hip", "knee", "foot", build.trousers, build.trousers)
    _shoe(draw, place, "far", build, thick, facing)
    limb("near", "hip", "knee", "foot", build.trousers, build.trousers)
    _shoe(draw, place, "near", build, thick, facing)
    line(place["hip"], place["shoulder"], build.shirt, thick * 2.2)
    _head(draw, place, build, scale * HEAD, facing)
    limb("near", "shoulder", "elbow", "hand", _shaded(build.shirt, 1.12), build.skin)
    ball("near hand", thick * 0.62, build.skin)


def _shoe(
    draw: Any, place: Mapping[str, Point], side: str, build: Build, thick: float, facing: int
) -> None:
    (kx, ky), (x, y) = place[f"{side} knee"], place[f"{side} foot"]
    length = math.hypot(x - kx, y - ky) or 1.0
    # The toe points across the shin, to the side the person faces.
    tx, ty = facing * abs(y - ky) / length, -facing * (x - kx) / length
    toe = (x + tx * thick * 1.3, y + ty * thick * 1.3)
    draw.line([(x, y), toe], fill=build.shoes, width=max(1, round(thick)))
    r = thick / 2
    for px, py in ((x, y), toe):
        draw.ellipse([px - r, py - r, px + r, py + r], fill=build.shoes)


def _head(draw: Any, place: Mapping[str, Point], build: Build, radius: float, facing: int) -> None:
    (sx, sy), (x, y) = place["shoulder"], place["head"]
    length = math.hypot(x - sx, y - sy) or 1.0
    ux, uy = (x - sx) / length, (y - sy) / length  # from neck to crown
    fx, fy = -uy * facing, ux * facing  # to where the face looks
    draw.line([(sx, sy), (x, y)], fill=build.skin, width=max(1, round(radius * 0.8)))
    hx, hy = x - fx * radius * 0.25 + ux * radius * 0.2, y - fy * radius * 0.25 + uy * radius * 0.2
    if build.long_hair:
        bx, by = (
            x - fx * radius * 0.8 - ux * radius * 0.5,
            y - fy * radius * 0.8 - uy * radius * 0.5,
        )
        draw.line([(hx, hy), (bx, by)], fill=build.hair, width=max(1, round(radius * 0.9)))
    r = radius * 1.06
    draw.ellipse([hx - r, hy - r, hx + r, hy + r], fill=build.hair)
    cx, cy = x + fx * radius * 0.18 - ux * radius * 0.1, y + fy * radius * 0.18 - uy * radius * 0.1
    r = radius * 0.88
    draw.ellipse([cx - r, cy - r, cx + r, cy + r], fill=build.skin)
    ex, ey = (
        cx + fx * radius * 0.45 + ux * radius * 0.1,
        cy + fy * radius * 0.45 + uy * radius * 0.1,
    )
    r = max(0.8, radius * 0.13)
    draw.ellipse([ex - r, ey - r, ex + r, ey + r], fill=(30, 25, 25))


def _shaded(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(255, int(c * factor)) for c in colour)
    return r, g, b
