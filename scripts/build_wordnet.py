"""Cut the small WordNet slice that the `wordnet` expander reads.

Usage: python scripts/build_wordnet.py FOLDER OUTPUT.tsv.gz

FOLDER holds a WordNet 3.0 database (data.verb, index.verb, data.noun, index.noun, cntlist.rev),
such as Debian's `wordnet-base` puts in /usr/share/wordnet. Another version numbers senses anew.

Rows of the output, sorted, so that the same database always gives the same bytes:
    v <tab> verb <tab> t|i <tab> field <tab> v|n <tab> synonyms joined with |
    n <tab> noun <tab> category <tab> synonyms joined with |
t: takes an object; field: kind of action; v: more often a verb than a noun;
category: what the thing is, in plain words.
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

INPUTS = ("data.verb", "index.verb", "data.noun", "index.noun", "cntlist.rev")
# Lexicographer files of verbs one can see, in WordNet's numbering.
FIELDS = {
    "29": "body",
    "30": "change",
    "33": "competition",
    "34": "consumption",
    "35": "contact",
    "36": "creation",
    "38": "motion",
    "39": "perception",
}
# Speaking, giving, knowing, meeting: known as verbs, but their synonyms are too loose to use.
OTHER_FILES = {"31", "32", "40", "41"}
# Animals, artifacts, food, plants: things one can see even when no category fits.
THINGS = {"05", "06", "13", "20"}
# Acts, animals, artifacts, body, books, food, natural objects, persons, plants, substances.
NOUN_FILES = {"04", "05", "06", "08", "10", "13", "17", "18", "20", "27"}
# Verb frames with a direct object, such as "Somebody ----s something".
OBJECT_FRAMES = {"08", "09", "11", "14", "15", "16", "17", "18", "19", "20", "21", "30", "31"}
PLAIN_FRAMES = {"01", "02", "03", "12", "13", "22", "23", "27", "33"}
MAX_SENSE = 4
VERB_SYNONYMS = 4
NOUN_SYNONYMS = 1

# Category: the WordNet words and sense numbers above a noun; the nearest one counts.
CATEGORIES = {
    "acrobatics": "acrobatic_stunt 1",
    "animal": "animal 1",
    "bag": "bag 1",
    "ball": "ball 1",
    "ball game": "ball_game 1",
    "bed": "bed 1",
    "bicycle": "bicycle 1",
    "bird": "bird 1",
    "boat": "boat 1",
    "body part": "body_part 1",
    "book": "book 1",
    "bottle": "bottle 1",
    "bread": "bread 1",
    "building": "building 1",
    "cake": "cake 3",
    "car": "car 1",
    "child": "child 1",
    "cloth": "fabric 1",
    "clothing": "clothing 1",
    "computer": "computer 1",
    "container": "container 1",
    "dance": "dancing 1",
    "device": "device 1",
    "dish": "dish 2",
    "dog": "dog 1",
    "drink": "beverage 1",
    "drum": "drum 1",
    "exercise": "exercise 1",
    "fish": "fish 1",
    "flower": "flower 1",
    "food": "food 1, food 2",
    "footwear": "footwear 1, footwear 2",
    "fruit": "edible_fruit 1",
    "furniture": "furniture 1",
    "game": "game 1, game 3, athletic_game 1",
    "garment": "garment 1",
    "gymnastic apparatus": "gymnastic_apparatus 1",
    "hat": "hat 1",
    "horse": "horse 1",
    "jewelry": "jewelry 1",
    "kitchen utensil": "kitchen_utensil 1",
    "machine": "machine 1",
    "makeup": "makeup 1",
    "martial art": "martial_art 1",
    "meat": "meat 1",
    "medicine": "medicine 2",
    "musical instrument": "musical_instrument 1",
    "person": "person 1",
    "plant": "plant 2",
    "race": "race 2",
    "room": "room 1",
    "seat": "seat 3",
    "sport": "sport 1",
    "table": "table 2",
    "tool": "tool 1",
    "toy": "plaything 1",
    "tree": "tree 1",
    "vegetable": "vegetable 1",
    "vehicle": "vehicle 1",
    "weapon": "weapon 1",
}
# Where a noun's first sense is vague, one of these among its first three is what is meant.
PREFERRED = {"food", "dish", "fruit", "vegetable", "meat", "bread", "cake"} | {
    "acrobatics",
    "exercise",
    "dance",
    "sport",
}
VAGUE = {"", "thing", "plant", "tree", "flower", "device", "machine"}
# Categories so wide that only words seen in WordNet's tagged texts are kept.
WIDE = {"thing", "person", "body part", "plant", "medicine", "device", "building", "container"}
# Too general to describe anything, or not to be seen, or too odd in a caption.
DULL_WORDS = """
act alter assail assault attach attack bang be bear become bed begin better bonk bushel carry_on
catch_a_wink cause change come come_down communicate continue create decrease die disperse
displace divide do do_something do_work doctor effect effectuate end exist experience express
express_emotion fall_apart feature feel force fuck gesticulate get give go grimace have
have_it_away hop-skip hump improve increase ingest interact keep kill know lessen let lie_with
live locomote lose love make make_noise mean modify motion move murder need operate part pass
perceive piss process produce propel pull_together put rape reduce remain remove roll_in_the_hay
run screw sculpture separate serve set shit show slaughter speak stay stop suck take take_a_breath
take_away tease touch_on travel treat turn twiddle undergo use vanquish want withdraw work
"""
DULL = frozenset(DULL_WORDS.split())

# Read by eye over some 700 everyday verbs: synonyms of a sense one does not mean; `*` is all.
REJECTED_TEXT = """
adjust: adapt, conform; arrest: nail, collar, nab; babble: ripple; bandage: fasten
bathe: enclose, envelop, cleanse; beat: *; bite: grip; bleach: whiten; blink: *; bob: cut
bounce: hit, ricochet, leap, jump; bowl: play; break: terminate; brush: touch
buckle: collapse, fall_in, cave_in; bump: impinge_on; burn: ruin; bury: hide; button: add
cast: send; chain: arrange; chase: dog; chip: break_away; clap: *; clench: clutch, seize
climb: rise; collapse: fold, fold_up; comfort: ease, relieve, alleviate; correct: reverse
cry: express_emotion; cut: *; deliver: fetch; dip: wane; direct: take_aim; disassemble: destroy
dismantle: level, destroy, pull_down; drain: use_up, wipe_out; draw: pull; dribble: *; drift: *
drive: motor; drop: descend, go_down; duel: *; evacuate: empty; exercise: *; explode: *; fan: *
feed: cater, ply; fell: fall, go_by, elapse; fertilize: enrich; file: march; fillet: *; fish: *
flick: flash, twinkle; flip: *; float: swim, drift; fly: wing; fold: *; forge: *
gather: accumulate, pile_up, amass; glaze: coat; grapple: clutch, seize; grease: cover; grip: *
hand: lead; head: go_forward; herd: crowd, crowd_together; hike: boost, lift; hit: *; hitchhike: *
hurl: hurtle, lunge; introduce: innovate; jack: *; juggle: throw; knock: rap; ladle: place, lay
land: set_down; launch: *; lean: place, lay; lick: *; lift: rise, go_up, move_up; light: illumine
limp: hitch; lock: mesh; lubricate: *; lunge: *; mince: walk; mop: *; mow: mop, grimace; napkin: *
operate: function; pack: encase; parcel: cover; park: place, lay; peck: strike; peel: chip
pitch: lurch; plane: cut; plant: *; play: *; plug: *; plunge: penetrate; poach: *; point: *
poke: nose; pop: *; pounce: descend, go_down; pour: *; powder: *; pry: nose, poke; pull: draw
queue: stand; race: hasten; reach: arrive_at; recite: *; reel: *; rehearse: perform; rip: *
rock: sway; run: hurry; rush: hasten; saddle: attach; salute: *; scramble: *; scratch: incise
sculpt: *; shelve: place, lay; ship: embark; shoe: clothe; shoot: *; shovel: delve; shrug: *
sing: *; skid: lift; skin: *; skip: leap; slice: hit; slip: *; smash: *; smear: soil; snap: *
sneak: walk; soak: plunge; soar: surge; sort: *; sow: place, lay; speed: *; spike: *; spin: reel
splash: slop, plod, trudge; split: *; squat: sit; stagger: arrange; start: *; steal: *
stick: stay_put, stay_in_place; stir: *; stop: cut_off, disrupt; strike: touch; string: *
stroke: row; stuff: *; suck: drink; sunbathe: *; surf: *; sway: rock; sweep: sail; swing: *
tackle: *; take: *; tap: cut; taste: *; tattoo: stain; teach: *; tear: *; tease: *; thread: *
tidy: square_away; toast: salute; torch: burn; toss: flip, pitch; tread: *; treat: *; trim: cut
trip: *; try: *; tube: *; tumble: push, descend, go_down; twirl: reel; uncork: unleash; unfold: *
use: *; vaccinate: inject; wash: swear_out; wave: flap; wax: mount; wear: deteriorate; weave: *
whisk: *; wind: thread, meander; wing: *; wink: *; work: *; yawn: *; zip: hurry
"""


def read_rejected(text: str) -> dict[str, set[str]]:
    pairs = (item.partition(":") for line in text.split("\n") for item in line.split(";") if item)
    return {verb.strip(): set(words.strip().split(", ")) for verb, _, words in pairs}


REJECTED = read_rejected(REJECTED_TEXT)


class Sense(NamedTuple):
    """One synset: its lexicographer file, words, parents (offsets) and verb frames."""

    file: str
    words: tuple[str, ...]
    parents: tuple[str, ...]
    frames: frozenset[str]


class Database:
    """The verbs or the nouns of a WordNet folder."""

    def __init__(self, folder: Path, pos: str) -> None:
        self.digit = {"noun": "1", "verb": "2"}[pos]
        self.senses = dict(read_senses(folder / f"data.{pos}"))
        self.index = dict(read_index(folder / f"index.{pos}"))
        self.counts: Counter[tuple[str, int]] = Counter()
        for line in (folder / "cntlist.rev").read_text(encoding="latin-1").splitlines():
            key, number, count = line.split()
            word, _, rest = key.partition("%")
            if rest[0] == self.digit:
                self.counts[word, int(number)] += int(count)

    def total(self, word: str) -> int:
        """How often the tagged texts hold the word in this part of speech."""
        return sum(self.counts[word, i + 1] for i in range(len(self.index.get(word, ()))))

    def rank(self, word: str, offset: str) -> int:
        """The number of this sense of the word, 1 for its most frequent."""
        return self.index[word.lower()].index(offset) + 1

    def common(self, offset: str, *, strict: bool) -> list[str]:
        """Words of a synset that often mean it: their first sense or (not strict) their second."""
        found = []
        for word in self.senses[offset].words:
            rank = self.rank(word, offset)
            seen = self.counts[word.lower(), rank] > 0
            if (
                word.lower() not in DULL
                and word.islower()
                and seen
                and rank <= (1 if strict else 2)
            ):
                found.append((-self.counts[word, rank], word))
        return [word for _, word in sorted(found)]


def read_senses(path: Path) -> Iterator[tuple[str, Sense]]:
    """Yield (offset, synset) from a data file; its format is WordNet's wndb(5)."""
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith(" "):
            continue
        items = line.partition("|")[0].split()
        n_words = int(items[3], 16)
        at = 4 + 2 * n_words
        n_pointers = int(items[at])
        pointers = [items[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(n_pointers)]
        frames = items[at + 2 + 4 * n_pointers :]
        yield (
            items[0],
            Sense(
                file=items[1],
                words=tuple(items[4 : 4 + 2 * n_words : 2]),
                parents=tuple(p[1] for p in pointers if p[0] in {"@", "@i"}),
                frames=frozenset(frames[1::3]),
            ),
        )


def read_index(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (word, offsets of its senses, most frequent first)."""
    for line in path.read_text(encoding="latin-1").splitlines():
        if not line.startswith(" "):
            items = line.split()
            yield items[0], items[-int(items[2]) :]


def verb_rows(verbs: Database, nouns: Database) -> Iterator[str]:
    """One row for each verb and use (with or without an object): its first sense one can see."""
    for word, offsets in verbs.index.items():
        if word.count("_") > 1 or not word.replace("_", "").replace("-", "").isalpha():
            continue
        seldom_noun = word not in nouns.index or verbs.total(word) > nouns.total(word)
        mostly = "v" if seldom_noun else "n"
        for use, frames in (("t", OBJECT_FRAMES), ("i", PLAIN_FRAMES)):
            fitting = [o for o in offsets[:MAX_SENSE] if verbs.senses[o].frames & frames]
            seen = [o for o in fitting if verbs.senses[o].file in FIELDS]
            other = [o for o in fitting if verbs.senses[o].file in OTHER_FILES]
            if seen:
                synonyms = verb_synonyms(verbs, word, seen[0], frames)
                field = FIELDS[verbs.senses[seen[0]].file]
                yield row("v", word, use, field, mostly, "|".join(synonyms))
            elif other:
                yield row("v", word, use, "other", mostly, "")


def verb_synonyms(verbs: Database, word: str, offset: str, frames: set[str]) -> list[str]:
    """Frequent words of the same synset, then of its parents, that can be used in the same way."""
    words = verbs.common(offset, strict=False)
    for parent in verbs.senses[offset].parents:
        if verbs.senses[parent].frames & frames:
            words += verbs.common(parent, strict=True)
    out = REJECTED.get(word, set())
    kept = [w for w in dict.fromkeys(words) if not shares_word(w, word) and not out & {w, "*"}]
    return kept[:VERB_SYNONYMS]


def category(nouns: Database, word: str, offset: str, names: dict[str, str]) -> str:
    """The nearest category at or above a noun sense that is not the noun itself, or ''."""
    queue, seen = deque([offset]), {offset}
    while queue:
        here = queue.popleft()
        if here in names and names[here] != word:
            return names[here]
        for parent in nouns.senses[here].parents:
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return ""


def noun_rows(nouns: Database) -> Iterator[str]:
    """One row for each noun that names something one can see in one of its first senses."""
    names = {}
    for name, places in CATEGORIES.items():
        for place in places.split(", "):
            word, number = place.split()
            names[nouns.index[word][int(number) - 1]] = name
    for word, offsets in nouns.index.items():
        proper = all(w != word for o in offsets for w in nouns.senses[o].words)
        if proper or word.count("_") > 1 or not word.replace("_", "").replace("-", "").isalpha():
            continue
        kinds = [
            (noun_kind(nouns, word, number, names), offset)
            for number, offset in enumerate(offsets[:3], 1)
        ]
        first = [k for k in kinds[:2] if k[0]]
        preferred = [k for k in kinds if k[0] in PREFERRED] if kinds[0][0] in VAGUE else []
        for kind, offset in [*preferred, *first][:1]:
            same = [w for w in nouns.common(offset, strict=True) if not shares_word(w, word)]
            kept = "" if kind == "thing" or word in REJECTED else "|".join(same[:NOUN_SYNONYMS])
            yield row("n", word, kind, kept)


def noun_kind(nouns: Database, word: str, number: int, names: dict[str, str]) -> str:
    """The category of a noun's sense, `thing` where it is one without a category, or ''."""
    offset = nouns.index[word][number - 1]
    file = nouns.senses[offset].file
    found = category(nouns, word, offset, names) if file in NOUN_FILES else ""
    if not found and number == 1 and file in THINGS:
        found = "thing"
    return "" if found in WIDE and not nouns.counts[word, number] else found


def shares_word(one: str, other: str) -> bool:
    return bool(set(one.split("_")) & set(other.split("_")))


def row(*fields: str) -> str:
    """A line; names come as users write them, with spaces."""
    return "\t".join(fields).replace("_", " ").replace("-", " ") + "\n"


def main(folder: Path, output: Path) -> None:
    missing = [name for name in INPUTS if not (folder / name).is_file()]
    if missing:
        sys.exit(f"{folder}: no {', '.join(missing)}; name the folder of a WordNet 3.0 database")
    verbs, nouns = Database(folder, "verb"), Database(folder, "noun")
    rows = sorted([*verb_rows(verbs, nouns), *noun_rows(nouns)])
    # A fixed time and no file name in the header: the same rows give the same bytes.
    with (
        output.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as file,
    ):
        file.write("".join(rows).encode())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
