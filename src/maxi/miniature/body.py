"""An articulated person: states of arms, legs and trunk give angles, angles give joints, joints give a drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from maxi.miniature.actions import Pose

Point = tuple[float, float]
Colour = tuple[int, int, int]

# Angles in degrees: 0 is down along the trunk, 90 is to where the person faces, 180 is over the head.
# Of arms: near upper arm, near forearm, far upper arm, far forearm.
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
# The share of the trunk's lean by which arms turn with it (1 if not listed); 0 keeps their angles in the world.
FOLLOWS = {"up": 0.75, "wave": 0.7, "side": 0.4, "front": 0.35, "down": 0.0, "pump": 0.5}
# Of legs: near thigh, near shin, far thigh, far shin.
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
    "hip", "shoulder", "head", "near elbow", "near hand", "near knee", "near foot",
    "far elbow", "far hand", "far knee", "far foot",
)  # fmt: skip
HOP = 0.15  # how far a jump lifts the body off the floor


class Build(NamedTuple):
    """What is the same in all frames of a person: proportions, colours, and a habit of a few degrees per angle."""

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
    """Return the angles in the world, in degrees, of 4 parts of arms, 4 of legs and the trunk, and then the hop."""
    trunk = TRUNK[pose.trunk]
    turn = (
        -trunk
    )  # a trunk that leans to the front turns limbs against the way in which their angles grow
    lying = pose.trunk == "lie"
    arm_turn = turn if lying else turn * FOLLOWS.get(pose.arms, 1.0)
    arms = [angle + arm_turn for angle in ARMS[pose.arms]]
    legs = [angle + (turn if lying else 0.0) for angle in LEGS[pose.legs]]
    return (*arms, *legs, trunk, HOP if pose.legs == "jump" and not lying else 0.0)


def between(one: tuple[float, ...], two: tuple[float, ...], share: float) -> tuple[float, ...]:
    """Return the angles at a share of the way from one pose to another."""
    return tuple(a + (b - a) * share for a, b in zip(one, two, strict=True))


def joints(at: tuple[float, ...], build: Build) -> dict[str, Point]:
    """Return the place of each joint: y points up, 1 is about the body's height, the lowest joint is at the hop or 0.

    `at` holds the angles and the hop, as `angles` returns them.
    """
    *limbs, trunk = (angle + habit for angle, habit in zip(at[:9], build.habit, strict=True))
    hop = at[9]
    lean = math.radians(trunk)
    up = (math.sin(lean), math.cos(lean))
    hip = (0.0, 0.0)
    shoulder = (hip[0] + TORSO * up[0], hip[1] + TORSO * up[1])
    nod = (math.sin(lean * 0.8), math.cos(lean * 0.8))
    places = {
        "hip": hip,
        "shoulder": shoulder,
        "head": (shoulder[0] + NECK * nod[0], shoulder[1] + NECK * nod[1]),
    }
    arm = ("elbow", "hand", shoulder, UPPER_ARM * build.arm, FOREARM * build.arm)
    leg = ("knee", "foot", hip, THIGH * build.leg, SHIN * build.leg)
    sides = [("near", arm), ("far", arm), ("near", leg), ("far", leg)]
    for k, (side, (middle, end, root, upper_length, lower_length)) in enumerate(sides):
        bend = _along(root, limbs[2 * k], upper_length)
        places[f"{side} {middle}"] = bend
        places[f"{side} {end}"] = _along(bend, limbs[2 * k + 1], lower_length)
    lowest = min(y for _, y in places.values())
    return {name: (x, y - lowest + hop) for name, (x, y) in places.items()}


def _along(start: Point, degrees: float, length: float) -> Point:
    """Return the end of a part of a limb that hangs down from `start` at 0 degrees."""
    angle = math.radians(degrees)
    return start[0] + length * math.sin(angle), start[1] - length * math.cos(angle)


def draw_person(
    draw: Any, place: Mapping[str, Point], build: Build, *, scale: float, facing: int
) -> None:
    """Draw a person with an `ImageDraw`; `place` holds the joints in pixels, `scale` is the body's height in pixels.

    `facing` is 1 for a person who faces the right, -1 for the left.
    """
    thick = scale * 0.072 * build.girth

    def limb(side: str, root: str, middle: str, end: str, upper: Colour, lower: Colour) -> None:
        shade = 0.72 if side == "far" else 1.0
        bend = place[f"{side} {middle}"]
        line(place[root], bend, _shaded(upper, shade), thick * 1.15)
        line(bend, place[f"{side} {end}"], _shaded(lower, shade), thick * 0.9)

    def line(start: Point, end: Point, colour: Colour, width: float) -> None:
        draw.line([start, end], fill=colour, width=max(1, round(width)))
        for x, y in (start, end):
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
    knee, heel = place[f"{side} knee"], place[f"{side} foot"]
    shin = (heel[0] - knee[0], heel[1] - knee[1])
    length = math.hypot(*shin) or 1.0
    # The toe points across the shin, to the side that the person faces.
    across = (facing * abs(shin[1]) / length, -facing * shin[0] / length)
    toe = (heel[0] + across[0] * thick * 1.3, heel[1] + across[1] * thick * 1.3)
    draw.line([heel, toe], fill=build.shoes, width=max(1, round(thick)))
    r = thick / 2
    for x, y in (heel, toe):
        draw.ellipse([x - r, y - r, x + r, y + r], fill=build.shoes)


def _head(draw: Any, place: Mapping[str, Point], build: Build, radius: float, facing: int) -> None:
    shoulder, centre = place["shoulder"], place["head"]
    length = math.hypot(centre[0] - shoulder[0], centre[1] - shoulder[1]) or 1.0
    up = ((centre[0] - shoulder[0]) / length, (centre[1] - shoulder[1]) / length)  # neck to crown
    front = (-up[1] * facing, up[0] * facing)  # to where the face looks

    def beside(point: Point, forward: float, upward: float) -> Point:
        """Return the point so many radii of the head in front of another and above it."""
        return (
            point[0] + front[0] * radius * forward + up[0] * radius * upward,
            point[1] + front[1] * radius * forward + up[1] * radius * upward,
        )

    def disc(point: Point, r: float, colour: Colour) -> None:
        x, y = point
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    draw.line([shoulder, centre], fill=build.skin, width=max(1, round(radius * 0.8)))
    hair = beside(centre, -0.25, 0.2)
    if build.long_hair:
        tip = beside(centre, -0.8, -0.5)
        draw.line([hair, tip], fill=build.hair, width=max(1, round(radius * 0.9)))
    disc(hair, radius * 1.06, build.hair)
    face = beside(centre, 0.18, -0.1)
    disc(face, radius * 0.88, build.skin)
    disc(beside(face, 0.45, 0.1), max(0.8, radius * 0.13), (30, 25, 25))


def _shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue
