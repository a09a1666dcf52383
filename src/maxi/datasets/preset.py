"""What a preset of a dataset is, and what of it a user has on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from maxi.datasets.files import ListFolder, VideoTree
from maxi.datasets.lists import Item, indexed, read_id_names, read_items
from maxi.errors import MaxiError
from maxi.randomness import shuffled
from maxi.text.names import same, words


@dataclass(frozen=True)
class Split:
    """A test split: its name, the names to choose from, its videos, and the files in which both are listed."""

    name: str
    names: Sequence[str]
    items: Sequence[Item]
    sources: Sequence[Path]


class Listed(NamedTuple):
    """Training videos, and the file that lists them."""

    path: Path
    items: Sequence[Item]


class Halves(NamedTuple):
    """The base-to-novel protocol: test videos of base and of novel names, and by seed training videos of the base."""

    base: Split
    novel: Split
    training: Mapping[int, Listed]


@dataclass(frozen=True)
class Preset:
    """A dataset of the field.

    `counts` are the official numbers of videos of each test split, `n_names` that of the names of each. `read` returns
    the splits that the lists in a folder give. With `several_labels` a video may show several actions. `needs` says in
    words which lists are read. `corrected` puts names right that are wrong as they are handed around.
    `shots` returns the list of K training videos of each name, drawn from `training`, the training videos of the first
    split, whose labels are places in the given names of that split. `halves` returns the lists of the base-to-novel
    protocol.
    """

    name: str
    title: str
    n_names: int
    counts: Mapping[str, int]
    needs: str
    read: Callable[[ListFolder], list[Split]]
    several_labels: bool = False
    corrected: Callable[[Sequence[str]], Sequence[str]] | None = None
    shots: Callable[[ListFolder, int], Listed] | None = None
    training: Callable[[ListFolder, Sequence[str]], Listed] | None = None
    halves: Callable[[ListFolder], Halves] | None = None


def field_splits(
    lists: ListFolder, names: Sequence[str], splits: Mapping[str, Sequence[str]]
) -> list[Split]:
    """Return splits from `path label` lists, found by their endings in `splits`, and an `id,name` table.

    Raises MaxiError, which says what was expected, when some are missing.
    """
    table = lists.require("table of names (id,name)", *names)
    all_names = read_id_names(table)
    found = []
    for split, endings in splits.items():
        path = lists.require(f"list of split {split} (`path label` rows)", *endings)
        found.append(Split(split, all_names, read_items(path, len(all_names)), (table, path)))
    return found


def shot_list(n_names: int, *endings: str) -> Callable[[ListFolder, int], Listed]:
    """Return the function that reads a list of K videos a name, of which `{k}` stands in the endings of its path."""

    def read(lists: ListFolder, k: int) -> Listed:
        own_endings = [ending.format(k=k) for ending in endings]
        path = lists.require(f"list of {k} training videos a name", *own_endings)
        return Listed(path, read_items(path, n_names))

    return read


def training_list(
    n_names: int, authors: Callable[[ListFolder], Split], *endings: str
) -> Callable[[ListFolder, Sequence[str]], Listed]:
    """Return the function that reads training videos: of the field's list of these endings, else the authors'."""

    def read(lists: ListFolder, names: Sequence[str]) -> Listed:
        if path := lists.find(*endings):
            return Listed(path, read_items(path, n_names))
        split = authors(lists)
        path = split.sources[-1]
        # The authors' training list may order its names in another way than the names of the test split.
        rows = [(item.path, same(split.names[item.labels[0]])) for item in split.items]
        return Listed(path, indexed(rows, [same(name) for name in names], path))

    return read


def half_lists(dataset: str, table: str, folder: str) -> Callable[[ListFolder], Halves]:
    """Return the function that reads the lists of the base-to-novel protocol, in which each half has its own names.

    `dataset` begins the names of files, such as `hmdb51_base_val.txt`. Among the lists as they are handed around,
    `table` begins the names of the tables of names, and `folder` is that of the lists.
    """

    def read(lists: ListFolder) -> Halves:
        splits = []
        for half in ("base", "novel"):
            names = (f"{dataset}_{half}.csv", f"{table}_{half}_labels.csv")
            endings = (f"{dataset}_{half}_val.txt", f"{folder}/{half}_val.txt")
            splits += field_splits(lists, names, {half: endings})
        base, novel = splits
        training = {}
        for seed in (1, 2, 3):
            endings = (
                f"{dataset}_base_train_seed{seed}.txt",
                f"{folder}/fs_base_s{seed}_train.txt",
            )
            path = lists.require(f"list of training videos of base names, seed {seed}", *endings)
            training[seed] = Listed(path, read_items(path, len(base.names)))
        return Halves(base, novel, training)

    return read


def drawn(
    listed: Sequence[Item],
    names: Sequence[str],
    k: int,
    seed: int,
    present: Callable[[str], object],
) -> list[Item]:
    """Draw K videos of each name by (seed, path); one that is not `present` gives its place to the next.

    The draws of one seed are nested: those of a smaller K are among those of a larger. Raises MaxiError when a name
    has fewer than K videos.
    """
    items = []
    # Paths from the folder that all have in common, so that a draw is the same wherever the videos lie.
    paths = [os.path.abspath(item.path) for item in listed]
    root = os.path.commonpath(paths)
    by_path = {os.path.relpath(path, root): item for path, item in zip(paths, listed, strict=True)}
    for label, name in enumerate(names):
        of_name = {path: item for path, item in by_path.items() if item.labels[0] == label}
        order = [
            path for path in shuffled(list(of_name), "shots", seed) if present(of_name[path].path)
        ]
        if len(order) < k:
            raise MaxiError(
                f"{name!r} has {len(order)} training videos on disk, fewer than {k} shots; add videos or lower --shots"
            )
        items += [of_name[path] for path in order[:k]]
    return items


def namings(split: Split, preset: Preset | None = None) -> dict[str, list[str]]:
    """Return the names of a split in each form in which figures are published, all of one order, by what is said of it.

    `as listed` are those of the list, `in words` have blanks and CamelCase as words where that is another form, and
    `corrected` are put right where the list is known to be wrong.
    """
    forms = {"as listed": list(split.names)}
    if (plain_words := [words(name) for name in split.names]) != forms["as listed"]:
        forms["in words"] = plain_words
    if preset and preset.corrected:
        forms["corrected"] = list(preset.corrected(split.names))
    return {
        form: names
        for form, names in forms.items()
        if form == "as listed" or names != forms["as listed"]
    }


@dataclass(frozen=True)
class Found:
    """The videos of a split that are on disk, each with the item that lists it, and the items that are missing."""

    split: Split
    videos: Sequence[tuple[Path, Item]]
    missing: Sequence[Item]

    def missing_by_name(self) -> list[tuple[str, int, int]]:
        """Return each name with missing videos, how many are missing, and how many are listed; most missing first."""
        listed = Counter(label for item in self.split.items for label in item.labels)
        missing = Counter(label for item in self.missing for label in item.labels)
        order = sorted(missing, key=lambda label: (-missing[label], label))
        return [(self.split.names[k], missing[k], listed[k]) for k in order]


def locate(preset: Preset, root: Path, lists: Path | None = None) -> list[Found]:
    """Return what of each split is on disk below `root`; the lists are read from `lists`, by default from `root`.

    Raises MaxiError when a list is missing or broken, when the number of names is not the official one, or when none of
    the videos is there.
    """
    splits = preset.read(ListFolder(lists or root))
    for split in splits:
        if len(split.names) != preset.n_names:
            raise MaxiError(
                f"{split.sources[0]}: {len(split.names)} names, and {preset.title} has {preset.n_names}; "
                "name the folder of its own lists with --lists"
            )
    tree = VideoTree(root)
    found = [found_of(split, tree) for split in splits]
    if not any(part.videos for part in found):
        raise MaxiError(
            f"{root} holds none of the {sum(preset.counts.values()):,} videos of {preset.title}, such as "
            f"{splits[0].items[0].path} ({len(tree):,} other videos are there); check the folder"
        )
    return found


def found_of(split: Split, tree: VideoTree) -> Found:
    """Return what of a split is in a tree of videos."""
    videos, missing = [], []
    for item in split.items:
        path = tree.find(item.path)
        if path is None:
            missing.append(item)
        else:
            videos.append((path, item))
    return Found(split, videos, missing)
