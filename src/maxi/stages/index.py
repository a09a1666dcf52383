"""Index: start a run with its action names, and list the videos that decode and the files that do not."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from maxi.errors import MaxiError, some
from maxi.files import digest, write_text
from maxi.progress import Progress, silent
from maxi.records import Journal, Skipped, Video, read_jsonl, write_jsonl
from maxi.run import UNFINISHED, Run, is_current, signed, write_signed
from maxi.stages.job import Job, check_skipped
from maxi.text.names import no_names, plain, same, words
from maxi.video.decode import Probe
from maxi.video.sources import Source, list_videos
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
    inputs = {"files": listing(sources)}
    if is_current(run.manifest, inputs):
        return read_jsonl(run.manifest, Video)
    known = read_jsonl(run.manifest, Video) if run.manifest.exists() else []
    journal = run.journal(run.manifest)
    videos, skipped = index_videos(
        sources, job.decoder, journal=journal, known=known, progress=job.progress
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
) -> tuple[list[Video], list[Skipped]]:
    """Decode every file once, and return the videos ordered by id, and the files that are unreadable or end early.

    The content of `known` videos is not decoded again; nor is that of videos which `journal` holds from an interrupted
    index. A file is read to know its content, unless its path, size and time of change are known. The order and the ids
    depend on the files' content alone, so that names of files and folders cannot reach a bag.
    """
    noted = Journal(journal, Video, "index")
    known = [*known, *noted.done]
    by_file = {(video.path, video.n_bytes, video.changed): video for video in known}
    by_content = {video.content: video for video in known}
    videos: list[Video] = []
    skipped: list[Skipped] = []
    unread: list[Video] = []
    unprobed: list[Video] = []

    def skip(file: Video, error: MaxiError) -> None:
        skipped.append(Skipped.unreadable(file.path, error))

    def id_requests() -> Iterator[Request]:
        """Yield a request for the content of each file that is not known."""
        for source in progress(sources, len(sources), "index"):
            file = _file(source)
            if found := by_file.get((file.path, file.n_bytes, file.changed)):
                videos.append(_of(file, found))
            else:
                unread.append(file)
                yield Request(file.path, "id")

    def probe_requests() -> Iterator[Request]:
        """Yield a request to decode each file whose content is not known."""
        for number, (request, answer) in enumerate(decoder.map(id_requests())):
            file = unread[number]
            if isinstance(answer, MaxiError):
                skip(file, answer)
            elif found := by_content.get(str(answer)):
                videos.append(_of(file, found))
            else:
                unprobed.append(replace(file, id=str(answer)))
                yield Request(request.path)

    try:
        for number, (_, answer) in enumerate(decoder.map(probe_requests())):
            file = unprobed[number]
            if isinstance(answer, MaxiError):
                skip(file, answer)
                continue
            assert isinstance(answer, Probe)
            size = answer.width, answer.height
            found = Video(file.id, "", answer.n_frames, answer.fps, *size, answer.short)
            videos.append(_of(file, found))
            noted.add(videos[-1])
    finally:
        noted.close()
    videos = _with_own_ids(videos)
    skipped += [Skipped(v.path, "short", v.short) for v in videos if v.short]
    return videos, sorted(skipped, key=lambda s: (s.kind, s.path))


def listing(sources: Sequence[Source]) -> str:
    """Return a digest of what is known of files without opening them: paths, labels, sizes and times of change."""
    entries = []
    for source in sources:
        try:
            status = source.path.stat()
            entries.append((str(source.path), source.label, status.st_size, status.st_mtime_ns))
        except OSError:
            entries.append((str(source.path), source.label, -1, 0))
    return digest(entries)


def _file(source: Source) -> Video:
    """Return what is known of a file before it is read: path, label, size and time of change."""
    try:
        status = source.path.stat()
        n_bytes, changed = status.st_size, status.st_mtime_ns
    except OSError:
        n_bytes, changed = -1, 0
    path = os.path.abspath(source.path)
    return Video("", path, 0, 0.0, 0, 0, label=source.label, n_bytes=n_bytes, changed=changed)


def _of(file: Video, found: Video) -> Video:
    """Return the video of a file whose content was found before."""
    return replace(
        found,
        id=found.content,
        path=file.path,
        label=file.label,
        n_bytes=file.n_bytes,
        changed=file.changed,
    )


def _with_own_ids(videos: Sequence[Video]) -> list[Video]:
    """Order videos by their ids; the second and later files of one content get other ids than the first."""
    n_copies: dict[str, int] = {}
    own = []
    for video in sorted(videos, key=lambda v: (v.id, v.path)):
        copy = n_copies[video.id] = n_copies.get(video.id, 0) + 1
        own.append(video if copy == 1 else replace(video, id=f"{video.id}-{copy}"))
    return sorted(own, key=lambda v: v.id)
