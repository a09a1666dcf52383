"""The 48 actions of the miniature: which states of arms, legs and trunk their key poses combine."""

from __future__ import annotations

from typing import NamedTuple

from maxi.errors import MaxiError
from maxi.randomness import shuffled


class Pose(NamedTuple):
    """A state of both arms, of both legs and of the trunk; `body.py` says what each looks like."""

    arms: str
    legs: str
    trunk: str


class Action(NamedTuple):
    """An action is the set of its one or two poses; `effector` is the part of the body that the object follows."""

    name: str
    effector: str
    poses: tuple[Pose, ...]

    def states(self) -> set[str]:
        """Return the states of body parts that occur in the poses, such as `arms up`."""
        return {f"{part} {state}" for pose in self.poses for part, state in pose._asdict().items()}


# The first eight serve for choosing settings only. No two actions differ in the order of their poses alone.
_TABLE = """
boxing          hand: pump wide upright    | front wide upright
weeping         hand: head kneel bend      | head kneel upright
rowing          hand: front sit bend       | chest sit back
signaling       hand: wave wide upright    | side wide upright
diving          hand: up straight bend     | up jump upright
skating         foot: side lunge bend      | side wide bend
strutting       hand: hips lunge upright   | hips straight back
sunbathing      hand: head straight lie    | head knee lie
weightlifting   hand: down squat bend      | up straight upright
star jumping    hand: up jump upright      | down straight upright
waving          hand: wave straight upright
clapping        hand: chest straight upright | side straight upright
kicking         foot: side kick upright    | down lunge upright
throwing        hand: wave wide back       | front lunge bend
heading         head: side jump back       | down straight bend
juggling        foot: chest knee upright   | front straight upright
bowing          hand: down straight bend   | chest straight upright
praying         hand: chest kneel upright  | chest kneel bend
begging         hand: up kneel upright     | front kneel bend
crunching       hand: head knee lie        | head sit upright
marching        hand: pump knee upright    | pump straight upright
sprinting       foot: pump lunge bend      | pump knee bend
digging         hand: down lunge bend      | front straight upright
surfing         foot: side squat upright   | side squat back
limboing        head: side squat back      | hips wide back
meditating      hand: chest sit upright
cheering        hand: up wide back         | up jump upright
pushing         hand: front lunge bend     | front lunge upright
towing          hand: front wide back      | chest wide back
crawling        hand: front kneel bend     | pump kneel bend
swimming        hand: up straight lie      | front kick lie
pedaling        foot: hips kick lie        | hips knee lie
chopping        hand: up wide upright      | down wide bend
balancing       head: side knee upright    | side straight upright
bowling         hand: wave lunge bend      | down straight upright
climbing        hand: wave knee upright    | up lunge upright
hurdling        foot: front kick bend      | pump straight upright
dancing         hand: hips knee upright    | wave wide upright
ducking         head: head squat bend      | head straight upright
sneaking        hand: chest squat bend     | chest lunge bend
fencing         hand: front lunge upright  | wave straight back
golfing         hand: up wide back         | down wide bend
relaxing        hand: head sit back
hopping         foot: hips jump upright    | hips straight upright
karate          foot: chest kick back      | chest wide upright
spiking         hand: wave jump back       | down squat upright
proposing       hand: front kneel upright  | chest kneel upright
scrubbing       hand: down kneel bend      | down kneel upright
"""


def _read(row: str) -> Action:
    """Read one line of the table."""
    head, _, poses = row.partition(":")
    name, effector = head.rsplit(maxsplit=1)
    return Action(name.strip(), effector, tuple(Pose(*pose.split()) for pose in poses.split("|")))


ACTIONS = tuple(_read(row) for row in _TABLE.strip().splitlines())
BY_NAME = {action.name: action for action in ACTIONS}
VALIDATION = ACTIONS[:8]
N_KNOWN = 24


def partition(seed: int) -> tuple[list[str], list[str]]:
    """Return the names of 24 known and of 16 unseen actions, a function of `seed`; validation actions are in neither.

    Every body-part state of an unseen action, and of a validation action, occurs in at least two known ones, so
    that an unseen action is a new combination of what was seen. Raises MaxiError when no such partition turns up.
    """
    names = [action.name for action in ACTIONS[len(VALIDATION) :]]
    for attempt in range(10_000):
        shuffled_names = shuffled(names, "partition", seed, attempt)
        known, unseen = shuffled_names[:N_KNOWN], shuffled_names[N_KNOWN:]
        counts: dict[str, int] = {}
        for name in known:
            for state in BY_NAME[name].states():
                counts[state] = counts.get(state, 0) + 1
        needed = set().union(*(BY_NAME[name].states() for name in unseen))
        needed |= set().union(*(action.states() for action in VALIDATION))
        if all(counts.get(state, 0) >= 2 for state in needed):
            return sorted(known), sorted(unseen)
    raise MaxiError(f"the actions cannot be parted for seed {seed}; pass another seed")
