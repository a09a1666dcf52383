"""A scene of the miniature: who does what where, and how its frames look; all chance comes from a generator."""

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

FINE = 2  # frames are drawn this many times larger, then averaged down
MARGIN = 0.12  # share of the backdrop around the frame, for the camera's shake
SKINS = [(250, 214, 184), (232, 184, 146), (196, 140, 100), (146, 98, 66), (96, 62, 44)]
HAIRS = [
    (40, 30, 25), (90, 58, 34), (150, 102, 52), (222, 186, 110), (150, 148, 146), (140, 52, 30)
]  # fmt: skip
OBJECT = 0.24  # half the extent of an object, as a share of the body's height
HAZE = 0.3  # how much grey is mixed into backdrops, as behind a person in focus
USUAL = 0.5  # share of stills that certainly show the usual object of the action


class Shift(NamedTuple):
    """How a video differs from a still: camera, light, blur, noise and things that stand about."""

    shake: float  # share of the frame's height by which the camera moves
    light: float  # factor of all pixels
    flicker: float  # share of the light that comes and goes
    tint: tuple[float, float, float]  # factors of red, green and blue
    blur: float  # radius in pixels at a height of 96
    ghost: float  # share of the frame before it that a frame still shows
    noise: float  # standard deviation, where white is 255
    clutter: int  # number of things


NO_SHIFT = Shift(0.0, 1.0, 0.0, (1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 0)


class Scene(NamedTuple):
    """All that one still or video shows, but for its size and its times."""

    action: str
    object: str
    colour: str
    place: str
    build: body.Build
    facing: int  # 1: to the right, -1: to the left
    scale: float  # height of the body, as a share of the frame's shorter side
    at: tuple[float, float]  # centre of the body and floor, as shares of the shorter side
    rate: float  # cycles a second
    phase: float  # where in the cycle the scene begins, 0 to 1
    linger: float  # how long a key pose is held: 1 is a plain sine
    shift: Shift
    seed: int


def draw_scene(
    rng: np.random.Generator, action: str, *, usual: float = 0.0, shifted: bool = True
) -> Scene:
    """Draw a scene of an action at random; object, place and person do not depend on the action.

    For the share `usual` of scenes, though, the object is the one that goes with the action.
    """
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
    """Return the object that goes with an action in half of the stills."""
    things = list(scenery.OBJECTS)
    return things[list(BY_NAME).index(action) % len(things)]


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
    red, green, blue = (int(channel) for channel in rng.integers(low, high, 3))
    return red, green, blue


def frames(
    scene: Scene, size: tuple[int, int], times: NDArray[np.float64]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a scene at `times` in seconds, each uint8 (H, W, 3); `size` is (width, height) in pixels."""
    return (pixels for pixels, _ in shots(scene, size, times))


def shots(
    scene: Scene, size: tuple[int, int], times: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.uint8], dict[str, body.Point]]]:
    """Yield the frames of a scene, each with the places of joints, object and floor in it, in pixels; see `frames`."""
    width, height = size
    rng = np.random.default_rng(scene.seed)
    backdrop_size = (int(width * FINE * (1 + 2 * MARGIN)), int(height * FINE * (1 + 2 * MARGIN)))
    backdrop = scenery.draw_place(scene.place, backdrop_size, rng)
    backdrop = Image.blend(backdrop, Image.new("RGB", backdrop_size, (186, 190, 194)), HAZE)
    _scatter(backdrop, scene.shift.clutter, rng)
    offsets = rng.uniform(0, 2 * math.pi, 4)
    pixels: NDArray[np.float32] | None = None
    for time in times:
        sway = [
            math.sin(2 * math.pi * hertz * time + offset)
            for hertz, offset in zip((0.9, 1.3, 2.1, 2.9), offsets, strict=True)
        ]
        shake = scene.shift.shake * height * FINE
        dx, dy = shake * (sway[0] + 0.5 * sway[2]), shake * (sway[1] + 0.5 * sway[3])
        image = _drawn(scene, backdrop, size, phase(scene, time), (dx, dy))
        light = scene.shift.light * (1 + scene.shift.flicker * sway[2])
        pixels = _developed(image, scene.shift, light, rng, pixels)
        moved = (dx / FINE, dy / FINE)
        yield pixels.astype(np.uint8), points(scene, size, phase(scene, time), moved)


def phase(scene: Scene, time: float) -> float:
    """Return how far the body is on its way from the first key pose to the second, 0 to 1, at a time in seconds."""
    swing = -math.cos(2 * math.pi * (scene.rate * time + scene.phase))
    return 0.5 + 0.5 * math.copysign(abs(swing) ** (1 / scene.linger), swing)


def _drawn(
    scene: Scene,
    backdrop: Image.Image,
    size: tuple[int, int],
    share: float,
    moved: tuple[float, float],
) -> Image.Image:
    """Draw one frame without its shift; `share` is the phase, `moved` the camera's way in fine pixels."""
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
    """Return the joints, the object and the floor under the hips, in pixels of a frame of `size` (width, height).

    `share` is the phase, and `moved` is how far the camera moves the picture, in pixels.
    """
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
    places = {
        name: (left + scene.facing * x * scale, floor - y * scale) for name, (x, y) in at.items()
    }
    places["floor"] = (left, floor)
    hovering = 0.04 + 0.1 * abs(math.sin(math.pi * (share + scene.phase)))
    x, y = places[{"hand": "near hand", "foot": "near foot", "head": "head"}[action.effector]]
    if action.effector == "hand":
        y -= 0.02 * scale
    elif action.effector == "foot":
        x, y = x + scene.facing * (0.1 + hovering) * scale, y - 0.05 * scale
    else:
        y -= (0.14 + hovering) * scale
    places["object"] = (x, y)
    return places


def _shadow(draw: ImageDraw.ImageDraw, at: dict[str, body.Point], scale: float) -> None:
    """Draw the shadow on the floor, under the joints that are near to it."""
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
    """Return the pixels of a frame (H, W, 3), 0 to 255, with its shift; `before` are those of the frame before it."""
    if shift.blur:
        image = image.filter(ImageFilter.BoxBlur(shift.blur * min(image.size) / 96))
    pixels = np.asarray(image, dtype=np.float32)
    if shift == NO_SHIFT:
        return pixels
    pixels = pixels * (np.asarray(shift.tint, dtype=np.float32) * np.float32(light))
    if shift.noise:
        # The grain repeats in tiles, since drawing it for each pixel would take longer than all the rest.
        grain = rng.normal(0, shift.noise, (48, 48, 1)).astype(np.float32)
        height, width = pixels.shape[:2]
        tiles = np.tile(grain, (height // 48 + 1, width // 48 + 1, 1))
        pixels = pixels + tiles[:height, :width]
    if before is not None and shift.ghost:
        pixels = pixels + shift.ghost * (before - pixels)
    clipped: NDArray[np.float32] = np.clip(pixels, 0, 255)
    return clipped


def _scatter(backdrop: Image.Image, n: int, rng: np.random.Generator) -> None:
    """Draw `n` posts, stones and crates, which mean nothing, on the floor."""
    draw = ImageDraw.Draw(backdrop)
    width, height = backdrop.size
    for _ in range(n):
        x, y = width * rng.uniform(0.1, 0.9), height * rng.uniform(0.72, 0.88)
        tone = tuple(int(channel) for channel in rng.integers(50, 200, 3))
        half, tall = height * rng.uniform(0.02, 0.06), height * rng.uniform(0.03, 0.12)
        if rng.random() < 0.5:
            draw.ellipse([x - half, y - tall / 2, x + half, y + tall / 2], fill=tone)
        else:
            draw.rectangle([x - half, y - tall, x + half, y], fill=tone)


def draw_still(purpose: str, seed: int, index: int) -> tuple[Scene, Pose]:
    """Draw still `index` of pre-training: a scene without shift, at rest near a key pose; and that pose."""
    rng = generator(f"miniature {purpose}", seed, 0, str(index))
    action = ACTIONS[index % len(ACTIONS)]
    scene = draw_scene(rng, action.name, usual=USUAL, shifted=False)
    end = int(rng.integers(2))
    return scene._replace(phase=0.5 * end + rng.normal(0, 0.05), rate=0.0), action.poses[-end]
