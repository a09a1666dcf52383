"""Check: find out which files of a collection decode, which end early, which do not decode, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from maxi.config import IndexConfig
from maxi.progress import Progress, bar
from maxi.records import Skipped
from maxi.stages.index import index_videos
from maxi.stages.job import check_skipped
from maxi.video.sources import list_videos
from maxi.video.workers import Decoder


@dataclass(frozen=True)
class Checked:
    """The number of files, and those that are unreadable or end early."""

    n_files: int
    skipped: Sequence[Skipped]

    def lines(self) -> Iterator[str]:
        """Yield each skipped file with its reason, then the counts, for the terminal."""
        for row in self.skipped:
            yield f"{row.kind:10}  {row.path}: {row.reason}"
        short = sum(row.kind == "short" for row in self.skipped)
        unreadable = len(self.skipped) - short
        yield (
            f"{self.n_files} files: {self.n_files - short - unreadable} readable, {short} end early, "
            f"{unreadable} unreadable"
        )

    def json_lines(self) -> Iterator[str]:
        """Yield each skipped file as a JSON object with path, kind and reason."""
        for row in self.skipped:
            yield json.dumps(asdict(row), ensure_ascii=False)

    def refuse(self, max_skipped: float | None = None) -> None:
        """Raise MaxiError when more files are unreadable than a run allows, or than the share `max_skipped`."""
        share = IndexConfig().max_skipped if max_skipped is None else max_skipped
        check_skipped(self.n_files, self.skipped, share)


def check_videos(where: str, *, progress: Progress = bar) -> Checked:
    """Decode every video of a folder, table or list once. Raises MaxiError when there is no video."""
    sources = list_videos(where)
    with Decoder() as decoder, TemporaryDirectory() as folder:
        _, skipped = index_videos(
            sources, decoder, journal=Path(folder) / "journal", known=[], progress=progress
        )
    return Checked(len(sources), skipped)
