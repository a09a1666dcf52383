"""Index: files -> the videos that decode, and the list of those that do not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maxi.errors import MaxiError
from maxi.records import Journal, Skipped, Video, digest
from maxi.video.decode import Probe
from maxi.video.sources import Source, video_id
from maxi.video.workers import Decoder, Request

FEW_SKIPPED = 5  # so many unreadable files never stop a run


def index_videos(
    sources: Sequence[Source],
    decoder: Decoder,
    *,
    journal: Path,
    known: Mapping[str, Video],
    progress: Callable[[Iterable[Any], int, str], Iterable[Any]],
) -> tuple[list[Video], list[Skipped]]:
    """Decode every file once: (videos ordered by id, files that are unreadable or end early).

    `known` videos, by id, are not decoded again; nor are those that `journal` holds from an interrupted index. The
    order and the ids depend on the files' content alone, so that names of files and folders cannot reach a bag.
    """
    done = Journal(journal, Video, "index")
    known = {**known, **{video.id: video for video in done.done}}
    found: list[tuple[str, Source, Video]] = []
    skipped: list[Skipped] = []
    unprobed: list[tuple[str, Source]] = []

    def identified() -> Iterator[Request]:
        for source in progress(sources, len(sources), "index"):
            try:
                name = video_id(source.path)
            except (OSError, MaxiError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                skipped.append(Skipped(os.path.abspath(source.path), "unreadable", reason))
                continue
            if name in known:
                found.append((name, source, known[name]))
                continue
            unprobed.append((name, source))
            yield Request(source.path)

    try:
        for number, (_, answer) in enumerate(decoder.map(identified())):
            name, source = unprobed[number]
            if isinstance(answer, MaxiError):
                skipped.append(Skipped(os.path.abspath(source.path), "unreadable", str(answer)))
                continue
            assert isinstance(answer, Probe)
            video = Video(
                name, "", answer.n_frames, answer.fps, answer.width, answer.height, answer.short
            )
            done.add(video)
            found.append((name, source, video))
    finally:
        done.close()
    videos = _named(found)
    skipped += [Skipped(v.path, "short", v.short) for v in videos if v.short]
    return videos, sorted(skipped, key=lambda s: (s.kind, s.path))


def listing(sources: Sequence[Source]) -> str:
    """Digest of what a listing says without opening a file: paths, labels, sizes and times of change."""
    rows = []
    for source in sources:
        try:
            status = source.path.stat()
            rows.append((str(source.path), source.label, status.st_size, status.st_mtime_ns))
        except OSError:
            rows.append((str(source.path), source.label, -1, 0))
    return digest(rows)


def _named(found: Sequence[tuple[str, Source, Video]]) -> list[Video]:
    """Each file's own path and label; the second and later copies of one content get ids of their own."""
    copies: dict[str, int] = {}
    videos = []
    for name, source, video in sorted(found, key=lambda f: (f[0], str(f[1].path))):
        copies[name] = copies.get(name, 0) + 1
        own = name if copies[name] == 1 else f"{name}-{copies[name]}"
        videos.append(replace(video, id=own, path=os.path.abspath(source.path), label=source.label))
    return sorted(videos, key=lambda v: v.id)


def check_skipped(n_files: int, skipped: Sequence[Skipped], max_skipped: float, where: str) -> None:
    """Raise MaxiError when nothing is readable, or too much is not (more than 5 files and the share `max_skipped`)."""
    bad = [s for s in skipped if s.kind == "unreadable"]
    if not bad:
        return
    first = f"first: {bad[0].path}: {bad[0].reason}"
    if len(bad) == n_files:
        raise MaxiError(
            f"none of the {n_files} videos can be read ({first}); the list is in {where}"
        )
    if len(bad) > FEW_SKIPPED and len(bad) > max_skipped * n_files:
        raise MaxiError(
            f"{len(bad)} of {n_files} videos cannot be read ({first}); mend or remove what {where} lists, "
            "or allow more with --max-skipped"
        )
