"""Find the lists of a dataset in a folder, and the videos that they name in a tree of any usual form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from maxi.datasets.lists import read_items
from maxi.errors import MaxiError
from maxi.records import Match, Video
from maxi.video.sources import EXTENSIONS, walk


def _files_below(root: Path) -> Iterator[PurePosixPath]:
    """Yield the files below a folder, relative to it."""
    return (PurePosixPath(path.relative_to(root).as_posix()) for path in walk(root))


def _existing(root: Path) -> Path:
    if not root.is_dir():
        raise MaxiError(f"{root} is no folder; check the path")
    return root


class ListFolder:
    """The files of a folder of lists, found by the end of their path, in any case and also gzipped."""

    def __init__(self, root: Path) -> None:
        self.root = _existing(root)
        self._files = [
            (path, _key(path)) for path in _files_below(root) if path.suffix not in EXTENSIONS
        ]

    def find(self, *endings: str) -> Path | None:
        """Return the first file that ends as the first of these paths that one ends as; None when none does."""
        for ending in endings:
            parts = _key(PurePosixPath(ending))
            if found := [path for path, key in self._files if key[-len(parts) :] == parts]:
                return self.root / min(found, key=lambda path: (len(path.parts), str(path)))
        return None

    def all(self, ending: str) -> list[Path]:
        """Return all files whose names end so, in the order of their names; one of each name."""
        named = {key[-1]: path for path, key in reversed(self._files) if key[-1].endswith(ending)}
        return [self.root / named[name] for name in sorted(named)]

    def require(self, what: str, *endings: str) -> Path:
        """Return the file of `find`. Raises MaxiError, which says what was expected, when there is none."""
        if path := self.find(*endings):
            return path
        raise MaxiError(
            f"{self.root} holds no {what}; looked for {', '.join(endings)} in it and its sub-folders: "
            "copy it there, or name another folder with --lists"
        )


def _key(path: PurePosixPath) -> tuple[str, ...]:
    """Return the parts of a path in lower case, without `.gz`."""
    return tuple(part.lower() for part in path.with_name(path.name.removesuffix(".gz")).parts)


class PathIndex:
    """Paths below a folder, found by listed ones; messages name `where`, by default the folder."""

    def __init__(
        self, root: Path, paths: Iterable[PurePosixPath], where: Path | None = None
    ) -> None:
        self.root, self._where = root, where or root
        self._by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
        for path in paths:
            self._by_stem[path.stem.lower()].append(path)

    def __len__(self) -> int:
        return sum(map(len, self._by_stem.values()))

    def find(self, listed: str) -> Path | None:
        """Return the file of a listed path; None when there is none.

        The names of the files decide, without their suffix, and then how many folders before them are the same. Raises
        MaxiError when two files fit equally well.
        """
        path = PurePosixPath(listed.replace("\\", "/"))
        fitting = self._by_stem.get(path.stem.lower(), [])
        if len(fitting) < 2:
            return self.root / fitting[0] if fitting else None
        order = sorted(fitting, key=lambda file: _likeness(file, path), reverse=True)
        best, second = (_likeness(file, path) for file in order[:2])
        if best == second:
            raise MaxiError(
                f"{self._where}: {order[0]} and {order[1]} both fit the listed {listed}; remove one of them"
            )
        return self.root / order[0]


class VideoTree(PathIndex):
    """The videos below a folder: flat, in class folders or in any others, with the suffix of any video format."""

    def __init__(self, root: Path) -> None:
        paths = _files_below(_existing(root))
        super().__init__(root, (path for path in paths if path.suffix.lower() in EXTENSIONS))


def read_matches(path: Path, names: Sequence[str], videos: Sequence[Video]) -> list[Match]:
    """Read a list of matches, rows of a path and the place of a name in `names`, as the released code has it.

    Returns those of the videos that it lists, in their order. Raises MaxiError for a row that is malformed, for a path
    that fits two videos equally well, and when no path is that of a video.
    """
    paths = (PurePosixPath(Path(video.path).as_posix()) for video in videos)
    index = PathIndex(Path(), paths, path)
    items = read_items(path, len(names))
    pairs = ((index.find(item.path), item.labels[0]) for item in items)
    places = {str(found): place for found, place in pairs if found}
    if not places:
        raise MaxiError(
            f"{path}: none of its {len(items)} paths is one of the videos, such as {items[0].path}; name another list"
        )
    return [
        Match(video.id, names[places[video.path]], 1.0, True)
        for video in videos
        if video.path in places
    ]


def _likeness(file: PurePosixPath, listed: PurePosixPath) -> tuple[int, bool]:
    """Return how many folders before the file are those of the list, and whether the suffix is the same."""
    pairs = zip(reversed(file.parts[:-1]), reversed(listed.parts[:-1]), strict=False)
    n_same = 0
    for own, other in pairs:
        if own.lower() != other.lower():
            break
        n_same += 1
    return n_same, file.suffix.lower() == listed.suffix.lower()
