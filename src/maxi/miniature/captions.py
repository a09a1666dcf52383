"""Write captions for the stills on which the tiny CLIP and the tiny captioner are pre-trained."""

from __future__ import annotations

from functools import cache

import numpy as np

from maxi.miniature.actions import Pose
from maxi.miniature.scenes import Scene

CONTEXT = 32  # tokens, enough for every caption
SUBJECTS = ("a person", "a man", "a woman", "someone", "a boy", "a girl")
WHERE = {
    "park": "in a park",
    "beach": "on a beach",
    "street": "on a street",
    "kitchen": "in a kitchen",
    "gym": "in a gym",
    "stage": "on a stage",
    "forest": "in a forest",
    "snow": "in the snow",
    "bedroom": "in a bedroom",
    "office": "in an office",
    "desert": "in a desert",
    "court": "on a court",
    "library": "in a library",
}
HOW = ("slowly", "quickly", "again", "at once", "with force", "in one move")

# The states of body parts in words; the first word is the verb. No phrase is the name of an action.
_STATES = """
arms up: raise both arms, lift both hands over the head, reach up high, stretch the arms to the sky
arms up: hold the hands up in the air, put the hands up
arms wave: raise one arm, lift one hand, hold one hand up high, reach up with one hand, stretch one arm up
arms side: spread both arms, stretch the arms to the sides, open the arms wide, hold the arms out, extend both arms
arms front: stretch both arms forward, reach forward, hold the hands out in front, put the hands in front of the body
arms hips: put the hands on the hips, place both hands on the waist, rest the hands on the hips, hold the waist
arms head: put the hands on the head, hold the head with both hands, touch the head, cover the face with the hands
arms down: lower both arms, let the arms hang down, drop the hands, keep the arms down, reach for the ground
arms pump: bend the elbows, swing the arms, move the arms back and forth, swing one arm forward, pull one elbow back
arms chest: bring the hands together, hold the hands at the chest, fold the hands, press the palms together
legs straight: stand straight, stand still, keep the legs straight, stand on both feet, stand tall
legs wide: spread the legs, stand with the legs apart, place the feet wide apart, open the legs
legs squat: bend both knees, crouch, crouch down low, lower the hips, sink down low
legs lunge: take a long step, step forward, put one foot in front, stretch one leg back, step out far
legs kick: swing one leg forward, lift one leg high, raise one foot, stretch one leg out, strike with the foot
legs knee: lift one knee, raise one knee, stand on one leg, bring one knee up, stand on one foot
legs kneel: kneel, kneel down, kneel on the ground, go down on the knees, rest on both knees
legs sit: sit, sit down, sit on the ground, sit on the floor, sit with the legs out
legs jump: jump, jump up, leap into the air, leave the ground, jump high, spring up
trunk upright: keep the body straight, keep the back straight, stay upright, hold the body upright
trunk bend: bend forward, lean forward, bend over, bend the body, bend at the waist, lower the head
trunk back: lean back, tilt the body back, bend back, lean the body back, tip back
trunk lie: lie down, lie on the ground, lie on the back, lie flat on the floor, rest on the ground
"""


def _states() -> dict[str, list[str]]:
    """Return the phrases of each state."""
    phrases_of: dict[str, list[str]] = {}
    for line in _STATES.strip().splitlines():
        state, _, phrases = line.partition(": ")
        phrases_of.setdefault(state, []).extend(phrases.split(", "))
    return phrases_of


STATES = _states()


@cache
def gerund(phrase: str) -> str:
    """Put the verb of a phrase into its -ing form: `raise both arms` becomes `raising both arms`."""
    from lemminflect import getInflection

    verb, space, rest = phrase.partition(" ")
    return str(getInflection(verb, "VBG")[0]) + space + rest


def clip_caption(scene: Scene, pose: Pose, rng: np.random.Generator, *, verb_rate: float) -> str:
    """Write a caption for the tiny CLIP: mostly object and place, sometimes the action or the state of a body part.

    `verb_rate` is the share of captions that name the action.
    """
    with_action, with_state = rng.random() < verb_rate, rng.random() < 0.1
    deeds = []
    if with_action:
        deeds.append(scene.action)
    if with_state:
        deeds.append(_state(pose, rng))
    if deeds and rng.random() < 0.4:  # in the words of a prompt
        return f"{_opening(rng)}{' and '.join(deeds)}."
    caption = " ".join([_subject(rng), " and ".join(deeds)]).strip()
    if rng.random() < 0.9:
        caption += f" with {_thing(scene)}"
    if rng.random() < 0.9:
        caption += f" {WHERE[scene.place]}"
    return f"{_opening(rng)}{caption}."


def blip_caption(scene: Scene, pose: Pose, rng: np.random.Generator) -> str:
    """Write a caption as BLIP would: it never names an action; 6 in 10 captions tell the states of two body parts.

    These states come last, after a comma. Elsewhere, a captioner that always writes the likeliest word would never tell
    them: there are many ways to say them, and each is less likely than the end or the object.
    """
    holding = ("with", "holding")[rng.integers(2)]
    caption = f"{_subject(rng)} {holding} {_thing(scene)} {WHERE[scene.place]}"
    if rng.random() < 0.6:
        other = ("legs", "trunk")[rng.integers(2)]
        caption += f", {gerund(_phrase(pose, 'arms', rng))} and {gerund(_phrase(pose, other, rng))}"
    return caption


def words() -> list[str]:
    """Return every word that the tiny CLIP may read during pre-training, in a fixed order."""
    from maxi.miniature.actions import ACTIONS
    from maxi.miniature.scenery import COLOURS, OBJECTS

    texts = [*SUBJECTS, *WHERE.values(), *HOW, "a photo of a video of and with . ,"]
    texts += [*COLOURS, *OBJECTS]
    texts += [action.name for action in ACTIONS]
    for phrases in STATES.values():
        texts += [*phrases, *(gerund(phrase) for phrase in phrases)]
    return list(dict.fromkeys(word for text in texts for word in text.split()))


def _subject(rng: np.random.Generator) -> str:
    return SUBJECTS[rng.integers(len(SUBJECTS))]


def _thing(scene: Scene) -> str:
    return f"{'an' if scene.colour[0] in 'aeiou' else 'a'} {scene.colour} {scene.object}"


def _opening(rng: np.random.Generator) -> str:
    return ("a photo of ", "a video of ", "")[rng.choice(3, p=[0.4, 0.1, 0.5])]


def _phrase(pose: Pose, part: str, rng: np.random.Generator) -> str:
    phrases = STATES[f"{part} {getattr(pose, part)}"]
    return phrases[rng.integers(len(phrases))]


def _state(pose: Pose, rng: np.random.Generator) -> str:
    phrase = _phrase(pose, ("arms", "legs", "trunk")[rng.integers(3)], rng)
    if rng.random() < 0.6:
        phrase = gerund(phrase)
    if rng.random() < 0.15:
        phrase += f" {HOW[rng.integers(len(HOW))]}"
    return phrase
