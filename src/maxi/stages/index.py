"""Index: start a run with its action names, and list the videos that decode and the files that do not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

from maxi.errors import MaxiError, some
from maxi.files import digest, write_text
from maxi.progress import Progress, silent
from maxi.records import Journal, Skipped, Video, read_jsonl, write_jsonl
from maxi.run import UNFINISHED, Run, is_current, signed, write_signed
from maxi.stages.job import Job, check_skipped
from maxi.text.names import no_names, plain, same, words
from maxi.video.decode import Probe
from maxi.video.sources import Source, list_videos
from maxi.video.timing import between, cut
from maxi.video.workers import Decoder, Request

logger = logging.getLogger(__name__)


def start_run(job: Job, names: Sequence[str]) -> None:
    """Make the run's folder with its settings and its action names.

    A list of names in the folder that was edited by hand is kept, where `names` are those that it was made from. Raises
    MaxiError when both have changed, when there is only one name, or when the folder holds files of others.
    """
    run = job.run
    run.check_own()
    run.create()
    job.lock()
    job.save_settings()
    lines = [plain(name) for name in names]
    if not job.config.keep_camel_case:
        lines = [words(line) for line in lines]
    inputs = {"the list of names": digest(lines)}
    unchanged = run.actions.is_file() and job.names() == lines
    if not unchanged and not is_current(run.actions, inputs):
        with signed(run.actions, inputs) as file:
            write_text(file, (line + "\n" for line in lines))
    # Names are read back, so that those that came as a list are checked like those of a file.
    if len(job.names()) < 2:
        raise MaxiError(f"{run.actions}: one action name leaves nothing to tell apart; add others")


def index_run(job: Job, where: str, run: Run | None = None) -> list[Video]:
    """Write `manifest.jsonl` and `skipped.jsonl`, and return the videos.

    `run` is the folder to write to, by default the job's. Videos that the last manifest lists are not decoded again.
    Raises MaxiError when too many files are unreadable.
    """
    run = run or job.run
    sources = list_videos(where)
    if run.folder != job.run.folder:
        check_labels(where, sources)
    return index_sources(job, sources, run)


def index_sources(job: Job, sources: Sequence[Source], run: Run) -> list[Video]:
    """Write `manifest.jsonl` and `skipped.jsonl` into the folder of `run`, and return the videos; see `index_run`."""
    run.create()
    segment = job.config.index.segment if run.folder == job.run.folder else 0.0
    inputs = {"files": listing(sources, segment)}
    if is_current(run.manifest, inputs):
        return read_jsonl(run.manifest, Video)
    known = read_jsonl(run.manifest, Video) if run.manifest.exists() else []
    journal = run.journal(run.manifest)
    videos, skipped = index_videos(
        sources,
        job.decoder,
        journal=journal,
        known=known,
        progress=job.progress,
        segment=segment,
    )
    write_jsonl(run.skipped, skipped)
    check_skipped(len(sources), skipped, job.config.index.max_skipped, run.skipped)
    again = {UNFINISHED: "videos"} if any(row.again for row in skipped) else {}
    write_signed(run.manifest, videos, inputs | again)
    journal.unlink(missing_ok=True)
    if skipped:
        n_short = sum(s.kind == "short" for s in skipped)
        logger.warning(
            "%d of %d files are unreadable and %d end early; see %s",
            len(skipped) - n_short,
            len(sources),
            n_short,
            run.skipped,
        )
    return videos


def check_labels(where: str, sources: Sequence[Source]) -> None:
    """Raise MaxiError when videos to measure on have no labels, all the same, or labels that name no actions."""
    if unlabelled := [s for s in sources if s.label is None]:
        raise MaxiError(
            f"{where}: {len(unlabelled)} of {len(sources)} videos have no label, first {unlabelled[0].path}; "
            "use class folders, or a csv with path and label"
        )
    labels = sorted({str(s.label) for s in sources})
    if len({same(label) for label in labels}) < 2:
        raise MaxiError(f"{where}: all videos have one label; give videos of at least two")
    if reason := no_names(labels):
        raise MaxiError(
            f"{where}: the labels ({some(labels)}) {reason}; name the action itself, in a column `label` or as the "
            "first folder on the way to a video"
        )


def read_videos(where: str | Path, *, progress: Progress = silent) -> list[Video]:
    """Return the videos of a folder, a table or a list of paths, or one video, ordered by their ids.

    The content of a file decides its id. Every file is decoded once; one that cannot be read is left out with a
    warning. Raises MaxiError when no video can be read.
    """
    sources = list_videos(where)
    with Decoder() as decoder, TemporaryDirectory() as folder:
        videos, skipped = index_videos(
            sources, decoder, journal=Path(folder) / "journal", known=[], progress=progress
        )
    if skipped:
        logger.warning("%d files are unreadable or end early: see `maxi check`", len(skipped))
    if not videos:
        raise MaxiError(f"{where}: none of the {len(sources)} videos can be read; see `maxi check`")
    return videos


def index_videos(
    sources: Sequence[Source],
    decoder: Decoder,
    *,
    journal: Path,
    known: Sequence[Video],
    progress: Progress,
    segment: float = 0.0,
) -> tuple[list[Video], list[Skipped]]:
    """Decode every file once, and return the videos ordered by id, and the files that are unreadable or end early.

    A file of which a source means a part is a video for each such part, and with `segment` one for each window of about
    so many seconds. The content of `known` videos is not decoded again; nor is that of videos which `journal` holds
    from an interrupted index. A file is read to know its content, unless its path, size and time of change are known.
    The order and the ids depend on the files' content alone, so that names of files and folders cannot reach a bag.
    """
    noted = Journal(journal, Video, "index")
    known = [*known, *noted.done]
    by_file = _by_cut(known, lambda video: (video.path, video.n_bytes, video.changed))
    by_content = _by_cut(known, lambda video: video.content)
    videos: list[Video] = []
    skipped: list[Skipped] = []
    files = _files(sources, segment)
    unread: list[File] = []
    unprobed: list[tuple[File, str]] = []

    def skip(file: File, error: MaxiError) -> None:
        skipped.append(Skipped.unreadable(file.path, error))

    def id_requests() -> Iterator[Request]:
        """Yield a request for the content of each file that is not known."""
        for file in progress(files, len(files), "index"):
            if found := file.among(by_file.get((file.path, file.n_bytes, file.changed))):
                videos.extend(found)
            else:
                unread.append(file)
                yield Request(file.path, "id")

    def probe_requests() -> Iterator[Request]:
        """Yield a request to decode each file whose content is not known."""
        for number, (request, answer) in enumerate(decoder.map(id_requests())):
            file = unread[number]
            if isinstance(answer, MaxiError):
                skip(file, answer)
            elif found := file.among(by_content.get(str(answer))):
                videos.extend(found)
            else:
                unprobed.append((file, str(answer)))
                yield Request(request.path)

    try:
        for number, (_, answer) in enumerate(decoder.map(probe_requests())):
            file, content = unprobed[number]
            if isinstance(answer, MaxiError):
                skip(file, answer)
                continue
            assert isinstance(answer, Probe)
            rows = {part.cut: segments(content, answer, part) for part in file.asked}
            for part in file.asked:
                if not rows[part.cut]:
                    what = f"has no frame at {part.cut} seconds, it ends at {answer.times[-1]:.1f}"
                    skip(file, MaxiError(what))
            # The first window last: without it those of a file are not whole.
            for video in reversed(list(chain(*rows.values()))):
                noted.add(file.own(video, None))
            videos.extend(file.among(rows) or ())
    finally:
        noted.close()
    videos = _with_own_ids(videos)
    short = {v.path: Skipped(v.path, "short", v.short) for v in videos if v.short}
    return videos, sorted([*skipped, *short.values()], key=lambda s: (s.kind, s.path))


def listing(sources: Sequence[Source], segment: float = 0.0) -> str:
    """Return a digest of what is known of files without opening them: paths, labels, sizes and times of change."""
    entries: list[tuple[object, ...]] = [("segment", segment)] if segment else []
    for source in sources:
        part = () if source.start is None else (source.start, source.end)
        entries.append((str(source.path), source.label, *_state(source.path), *part))
    return digest(entries)


def _state(path: Path) -> tuple[int, int]:
    """Return a file's size and time of change; -1 and 0 where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


class Part(NamedTuple):
    """What is asked of a file: all of it where `cut` is None, from `start` to `end`, or windows of `seconds`."""

    label: str | None
    cut: str | None = None
    start: float = 0.0
    end: float = 0.0
    seconds: float = 0.0


class File(NamedTuple):
    """What is known of a file before it is read: path, size and time of change, and what is asked of it."""

    path: str
    n_bytes: int
    changed: int
    asked: list[Part]

    def own(self, video: Video, label: str | None) -> Video:
        """Return a video that was found before as one of this file."""
        return replace(
            video, path=self.path, label=label, n_bytes=self.n_bytes, changed=self.changed
        )

    def among(self, rows: Mapping[str | None, Sequence[Video]] | None) -> list[Video] | None:
        """Return the videos of all parts, from rows of the same content by `cut`; None where a part is missing.

        Of windows the first one is noted last, so that they are whole where it is there.
        """
        if rows is None or any(part.cut not in rows for part in self.asked):
            return None
        if any(part.seconds and rows[part.cut][0].first != 0 for part in self.asked):
            return None
        return [self.own(video, part.label) for part in self.asked for video in rows[part.cut]]


def _files(sources: Sequence[Source], segment: float) -> list[File]:
    """Return the files of the sources, each once, with all that is asked of it."""
    files: dict[str, File] = {}
    for source in sources:
        path = os.path.abspath(source.path)
        if path not in files or source.start is None:  # a file may be listed twice
            key = path if path not in files else f"{path}\0{len(files)}"
            files[key] = File(path, *_state(source.path), [])
        else:
            key = path
        if source.start is not None and source.end is not None:
            asked = f"{source.start:.3f}-{source.end:.3f}"
            part = Part(source.label, asked, source.start, source.end)
        elif segment:
            part = Part(source.label, f"{segment:.3f}", seconds=segment)
        else:
            part = Part(source.label)
        files[key].asked.append(part)
    return list(files.values())


def segments(content: str, probe: Probe, part: Part) -> list[Video]:
    """Return the videos that a part of a file is; [] where the file ends before it begins."""
    size = probe.width, probe.height
    if part.cut is None:
        return [Video(content, "", probe.n_frames, probe.fps, *size, probe.short)]
    if part.seconds:
        windows = cut(probe.times, part.seconds)
    else:
        window = between(probe.times, part.start, part.end)
        windows = [window] if window else []
    entries = [probe.entry(window.frames[0]) or (None, None) for window in windows]
    return [
        Video(
            f"{content}@{window.start:.3f}-{window.end:.3f}",
            "",
            window.frames[1] - window.frames[0],
            probe.fps,
            *size,
            probe.short,
            cut=part.cut,
            start=round(window.start, 3),
            end=round(window.end, 3),
            first=window.frames[0],
            key=key,
            stamp=stamp,
        )
        for window, (key, stamp) in zip(windows, entries, strict=True)
    ]


Kept = TypeVar("Kept", bound=Hashable)


def _by_cut(
    videos: Sequence[Video], key: Callable[[Video], Kept]
) -> dict[Kept, dict[str | None, list[Video]]]:
    """Return videos by a key, and then by what was asked of their file; each segment once."""
    found: dict[Kept, dict[str | None, dict[object, Video]]] = {}
    for video in videos:
        part = found.setdefault(key(video), {}).setdefault(video.cut, {})
        plain = replace(video, id=_plain_id(video))
        part.setdefault(video.first, plain)
    return {
        of: {
            asked: sorted(part.values(), key=lambda video: video.first or 0)
            for asked, part in parts.items()
        }
        for of, parts in found.items()
    }


def _plain_id(video: Video) -> str:
    """Return the id without the number of a copy."""
    if video.start is None or video.end is None:
        return video.content
    return f"{video.content}@{video.start:.3f}-{video.end:.3f}"


def _with_own_ids(videos: Sequence[Video]) -> list[Video]:
    """Order videos by their ids; the second and later files of one content get other ids than the first."""
    n_copies: dict[str, int] = {}
    own = []
    for video in sorted(videos, key=lambda v: (v.id, v.path)):
        copy = n_copies[video.id] = n_copies.get(video.id, 0) + 1
        own.append(video if copy == 1 else replace(video, id=f"{video.id}-{copy}"))
    return sorted(own, key=lambda v: v.id)
