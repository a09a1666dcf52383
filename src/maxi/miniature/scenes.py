"""A scene of the miniature: who does what where, and how its frames look; every draw follows from its generator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from maxi.miniature import body, scenery
from maxi.miniature.actions import ACTIONS, BY_NAME, Pose
from maxi.randomness import generator

FINE = 2  # drawn this many times larger, then averaged down
MARGIN = 0.12  # share of the backdrop around the frame, for the camera's shake
SKINS = [(250, 214, 184), (232, 184, 146), (196, 140, 100), (146, 98, 66), (96, 62, 44)]
HAIRS = [
    (40, 30, 25),
    (90, 58, 34),
    (150, 102, 52),
    (222, 186, 110),
    (150, 148, 146),
    (140, 52, 30),
]
OBJECT = 0.24  # half the extent of an object, as a share of the body
HAZE = 0.3  # how far backdrops fade, as behind a person in focus
USUAL = 0.5  # share of stills whose object is the usual one of the action


class Shift(NamedTuple):
    """What tells a video from a still: camera, light, blur, noise and things that stand about."""

    shake: float  # share of the frame's height
    light: float  # factor
    flicker: float
    tint: tuple[float, float, float]
    blur: float  # radius in pixels at a height of 96
    ghost: float  # share of the frame before that is still seen
    noise: float  # standard deviation, of 255
    clutter: int


NO_SHIFT = Shift(0.0, 1.0, 0.0, (1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 0)


class Scene(NamedTuple):
    """Everything about one still or video but its size and times."""

    action: str
    object: str
    colour: str
    place: str
    build: body.Build
    facing: int
    scale: float  # of a body, as a share of the shorter side
    at: tuple[float, float]  # centre of the body and floor, as shares of the shorter side
    rate: float  # cycles a second
    phase: float
    linger: float  # how long a key pose is held: 1 is a plain sine
    shift: Shift
    seed: int


def draw_scene(
    rng: np.random.Generator, action: str, *, usual: float = 0.0, shifted: bool = True
) -> Scene:
    """Draw a scene of an action; object, place and person are independent of it but for the share `usual`."""
    things, places, colours = list(scenery.OBJECTS), list(scenery.PLACES), list(scenery.COLOURS)
    thing = things[rng.integers(len(things))]
    if rng.random() < usual:
        thing = usual_object(action)
    build = body.Build(
        arm=rng.uniform(0.92, 1.1),
        leg=rng.uniform(0.92, 1.08),
        girth=rng.uniform(0.85, 1.3),
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        long_hair=bool(rng.random() < 0.5),
        shirt=_colour(rng),
        trousers=_colour(rng),
        shoes=_colour(rng, 20, 110),
        habit=tuple(rng.normal(0, 5, 9)),
    )
    return Scene(
        action=action,
        object=thing,
        colour=colours[rng.integers(len(colours))],
        place=places[rng.integers(len(places))],
        build=build,
        facing=1 if rng.random() < 0.5 else -1,
        scale=rng.uniform(0.63, 0.77),
        at=(rng.normal(0, 0.04), rng.uniform(0.9, 0.96)),
        rate=rng.uniform(0.35, 0.9),
        phase=rng.random(),
        linger=rng.uniform(1.0, 1.8),
        shift=_draw_shift(rng) if shifted else NO_SHIFT,
        seed=int(rng.integers(2**31)),
    )


def usual_object(action: str) -> str:
    """The object that goes with an action in half of the stills."""
    things = list(scenery.OBJECTS)
    return things[[a.name for a in ACTIONS].index(action) % len(things)]


def _draw_shift(rng: np.random.Generator) -> Shift:
    return Shift(
        shake=rng.uniform(0.005, 0.03),
        light=rng.uniform(0.35, 1.1),
        flicker=rng.uniform(0.0, 0.06),
        tint=tuple(rng.uniform(0.8, 1.2, 3)),
        blur=rng.uniform(0.0, 2.4),
        ghost=rng.uniform(0.0, 0.85),
        noise=rng.uniform(0.0, 28.0),
        clutter=int(rng.integers(0, 11)),
    )


def _colour(rng: np.random.Generator, low: int = 30, high: int = 235) -> tuple[int, int, int]:
    r, g, b = (int(c) for c in rng.integers(low, high, 3))
    return r, g, b


def frames(
    scene: Scene, size: tuple[int, int], times: NDArray[np.float64]
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a scene as uint8 (H, W, 3) at times in seconds; `size` is (width, height)."""
    width, height = size
    rng = np.random.default_rng(scene.seed)
    wide = (int(width * FINE * (1 + 2 * MARGIN)), int(height * FINE * (1 + 2 * MARGIN)))
    backdrop = scenery.draw_place(scene.place, wide, rng)
    backdrop = Image.blend(backdrop, Image.new("RGB", wide, (186, 190, 194)), HAZE)
    _scatter(backdrop, scene.shift.clutter, rng)
    sways = rng.uniform(0, 2 * math.pi, 4)
    before: NDArray[np.float32] | None = None
    for time in times:
        sway = [
            math.sin(2 * math.pi * f * time + p)
            for f, p in zip((0.9, 1.3, 2.1, 2.9), sways, strict=True)
        ]
        shake = scene.shift.shake * height * FINE
        dx, dy = shake * (sway[0] + 0.5 * sway[2]), shake * (sway[1] + 0.5 * sway[3])
        image = _drawn(scene, backdrop, size, phase(scene, time), (dx, dy))
        light = scene.shift.light * (1 + scene.shift.flicker * sway[2])
        before = _developed(image, scene.shift, light, rng, before)
        yield before.astype(np.uint8)


def phase(scene: Scene, time: float) -> float:
    """How far the body is from its first key pose to its second, 0 to 1."""
    swing = -math.cos(2 * math.pi * (scene.rate * time + scene.phase))
    return 0.5 + 0.5 * math.copysign(abs(swing) ** (1 / scene.linger), swing)


def _drawn(
    scene: Scene,
    backdrop: Image.Image,
    size: tuple[int, int],
    share: float,
    moved: tuple[float, float],
) -> Image.Image:
    width, height = size[0] * FINE, size[1] * FINE
    left = (backdrop.width - width) / 2 - moved[0]
    top = (backdrop.height - height) / 2 - moved[1]
    corner = (round(left), round(top))
    image = backdrop.crop((*corner, corner[0] + width, corner[1] + height))
    draw = ImageDraw.Draw(image)

    at = points(scene, (width, height), share, moved)
    scale = scene.scale * min(size) * FINE
    _shadow(draw, at, scale)
    body.draw_person(draw, at, scene.build, scale=scale, facing=scene.facing)
    scenery.draw_object(draw, scene.object, at["object"], OBJECT * scale, scene.colour)
    return image.reduce(FINE)


def points(
    scene: Scene, size: tuple[int, int], share: float, moved: tuple[float, float] = (0.0, 0.0)
) -> dict[str, body.Point]:
    """Joints, the object and the floor under the hips, in pixels of a frame of `size` (width, height)."""
    width, height = size
    short = min(size)
    scale = scene.scale * short
    action = BY_NAME[scene.action]
    poses = [body.angles(pose) for pose in action.poses]
    ends = [x for pose in poses for x, _ in body.joints(pose, scene.build).values()]
    left = width / 2 + scene.at[0] * short + moved[0]
    left -= scene.facing * scale * (min(ends) + max(ends)) / 2
    floor = height / 2 + (scene.at[1] - 0.5) * short + moved[1]
    at = body.joints(body.between(poses[0], poses[-1], share), scene.build)
    found = {
        name: (left + scene.facing * x * scale, floor - y * scale) for name, (x, y) in at.items()
    }
    found["floor"] = (left, floor)
    hovering = 0.04 + 0.1 * abs(math.sin(math.pi * (share + scene.phase)))
    x, y = found[{"hand": "near hand", "foot": "near foot", "head": "head"}[action.effector]]
    if action.effector == "hand":
        y -= 0.02 * scale
    elif action.effector == "foot":
        x, y = x + scene.facing * (0.1 + hovering) * scale, y - 0.05 * scale
    else:
        y -= (0.14 + hovering) * scale
    found["object"] = (x, y)
    return found


def _shadow(draw: ImageDraw.ImageDraw, at: dict[str, body.Point], scale: float) -> None:
    left, floor = at["floor"]
    xs = [x for name, (x, y) in at.items() if name in body.JOINTS and floor - y < 0.35 * scale]
    xs = xs or [left]
    r = 0.03 * scale
    box = [min(xs) - 2 * r, floor - r * 0.6, max(xs) + 2 * r, floor + r * 1.4]
    draw.ellipse(box, fill=(70, 70, 70))


def _developed(
    image: Image.Image,
    shift: Shift,
    light: float,
    rng: np.random.Generator,
    before: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    if shift.blur:
        image = image.filter(ImageFilter.BoxBlur(shift.blur * min(image.size) / 96))
    pixels = np.asarray(image, dtype=np.float32)
    if shift == NO_SHIFT:
        return pixels
    pixels = pixels * (np.asarray(shift.tint, dtype=np.float32) * np.float32(light))
    if shift.noise:
        # Grain repeats in tiles: drawing it anew for each pixel would cost more than the rest.
        grain = rng.normal(0, shift.noise, (48, 48, 1)).astype(np.float32)
        h, w = pixels.shape[:2]
        pixels = pixels + np.tile(grain, (h // 48 + 1, w // 48 + 1, 1))[:h, :w]
    if before is not None and shift.ghost:
        pixels = pixels + shift.ghost * (before - pixels)
    clipped: NDArray[np.float32] = np.clip(pixels, 0, 255)
    return clipped


def _scatter(backdrop: Image.Image, n: int, rng: np.random.Generator) -> None:
    """Posts, stones and crates that mean nothing."""
    draw = ImageDraw.Draw(backdrop)
    w, h = backdrop.size
    for _ in range(n):
        x, y = w * rng.uniform(0.1, 0.9), h * rng.uniform(0.72, 0.88)
        tone = tuple(int(c) for c in rng.integers(50, 200, 3))
        a, b = h * rng.uniform(0.02, 0.06), h * rng.uniform(0.03, 0.12)
        if rng.random() < 0.5:
            draw.ellipse([x - a, y - b / 2, x + a, y + b / 2], fill=tone)
        else:
            draw.rectangle([x - a, y - b, x + a, y], fill=tone)


def draw_still(purpose: str, seed: int, index: int) -> tuple[Scene, Pose]:
    """A scene at rest near one of its action's key poses, without the videos' shift; for pre-training."""
    rng = generator(f"miniature {purpose}", seed, 0, str(index))
    action = ACTIONS[index % len(ACTIONS)]
    scene = draw_scene(rng, action.name, usual=USUAL, shifted=False)
    end = int(rng.integers(2))
    return scene._replace(phase=0.5 * end + rng.normal(0, 0.05), rate=0.0), action.poses[-end]
