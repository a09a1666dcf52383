"""Inputs: what a stage reads. Whatever is read through it enters the key of the file that the stage makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxi.config import Stage
from maxi.errors import MaxiError
from maxi.files import digest
from maxi.models.video_clip import VideoCLIP
from maxi.records import Bag, Video, read_jsonl
from maxi.run import UNFINISHED, contents, is_current
from maxi.stages.job import Job, fresh_model


class Inputs:
    """The inputs of one stage: each method returns something that decides the output, and notes it in `key`.

    A stage takes all that its output depends on from here, so that nothing which is read can be missing in the key. A
    test watches every stage for settings and files that it reads in other ways.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._settings: dict[str, Any] = {}
        self._videos: list[Video] = []
        self.key: dict[str, str] = {}

    def settings(self, part: str) -> Any:
        """Return a part of the settings, such as `match`, or a single setting, such as `eval.prompt`."""
        value: Any = self._job.config
        for name in part.split("."):
            value = getattr(value, name)
        self._settings[part] = value.decisive() if isinstance(value, Stage) else value
        self.key["settings"] = digest(self._settings)
        return value

    def videos(self) -> list[Video]:
        """Return the videos of the run."""
        self._videos = self._videos or read_jsonl(self._job.run.manifest, Video)
        self.key["manifest.jsonl"] = videos_key(self._videos)
        return self._videos

    def videos_of(self, bags: Sequence[Bag]) -> list[Video]:
        """Return the videos of these bags, in their order; see `bag_videos`."""
        videos = bag_videos(self._job, bags)
        self.key["manifest.jsonl"] = videos_key(videos)
        return videos

    def names(self) -> list[str]:
        """Return the action names of the run."""
        names = self._job.names()
        self.key["actions.txt"] = digest(names)
        return names

    def backbone(self) -> VideoCLIP:
        """Return the frozen backbone."""
        self.key["backbone"] = self._job.fingerprint
        return self._job.model()

    def second_model(self, spec: str) -> VideoCLIP:
        """Return the model that `bag.agree` names."""
        model = fresh_model(self._job.config, spec)
        self.key["agree"] = model.backbone.fingerprint()
        return model

    def files(self, *paths: Path) -> None:
        """Note the content of files of the user or of another model, which the settings name."""
        self.key["files"] = digest([contents(path) for path in paths])

    def tables(self, *paths: Path) -> None:
        """Note the content of tables of the run."""
        self.key |= {path.name: contents(path) for path in paths}

    def note(self, name: str, value: Any) -> None:
        """Note anything else by a name, which messages about a change call it by."""
        self.key[name] = digest(value)

    def used(self, *, whole: bool = True) -> dict[str, str]:
        """Return the key to write; it is never current where the output is not `whole`, or where videos could not be
        read for a reason that may pass.
        """
        is_whole = whole and not self._job.unfinished
        return self.key | ({} if is_whole else {UNFINISHED: "more may come"})

    def made(self, path: Path) -> bool:
        """Return whether a file is made from these inputs as they are now; see `run.is_current`."""
        return is_current(path, self.key)


def bag_videos(job: Job, bags: Sequence[Bag]) -> list[Video]:
    """Return the videos of these bags, in their order. Raises MaxiError when one is unknown."""
    by_id = {v.id: v for v in read_jsonl(job.run.manifest, Video)}
    for number, row in enumerate(bags, 1):
        if row.video not in by_id:
            raise MaxiError(
                f"{job.run.bags}:{number}: video {row.video!r} is not in manifest.jsonl; "
                "mend the row or rerun `maxi bag`"
            )
    return [by_id[b.video] for b in bags]


def videos_key(videos: Sequence[Video]) -> str:
    """Return a digest of the videos' contents; neither paths nor labels change it."""
    return digest([(v.id, v.n_frames) for v in videos])
