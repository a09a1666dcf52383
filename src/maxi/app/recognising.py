"""The page that classifies a video of the run, or one that is uploaded, window by window."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from maxi.app.desk import Desk
from maxi.errors import MaxiError
from maxi.method.classification import Classifier
from maxi.reports.refinement import load_refinement
from maxi.text.names import distinct

Name = Annotated[str, Field(max_length=1000)]


class Task(BaseModel):
    """A video of the run by its id, or an uploaded one by its number; the names, and the seconds of a window."""

    video: Annotated[str, Field(max_length=100)] = ""
    upload: Annotated[str, Field(max_length=100)] = ""
    names: Annotated[list[Name], Field(max_length=5000)] = []
    window: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 10.0


def recognise(desk: Desk, task: Task) -> dict[str, Any]:
    """Return the best names of each window of a video, with the refinement of the run where it is for these names.

    Raises MaxiError when there is no name, or when the video cannot be decoded.
    """
    if not task.video and not task.upload:
        raise MaxiError("there is no video; choose one of the run, or upload one")
    path = str(desk.uploads.path(task.upload)) if task.upload else desk.video(task.video).path
    names = distinct(name.strip() for name in task.names if name.strip()) or desk.names
    model, config = desk.model, desk.job.config
    with desk.models:
        loaded = load_refinement(desk.run)
        tuning = None
        if loaded and loaded.facts["weights"] == model.backbone.fingerprint():
            tuning = loaded.tuning(desk.run, model.backbone.fingerprint(), names)
        classifier = Classifier(
            model,
            names,
            prompt=config.eval.prompt,
            n_frames=config.eval.n_frames,
            k=3,
            tuning=tuning,
        )
        try:
            windows = list(classifier.windows(path, desk.job.decoder, task.window))
        except MaxiError as error:
            # The path of an uploaded file says nothing to the user.
            raise MaxiError(str(error).removeprefix(f"{path}: ")) from error
    return {
        "seconds": windows[-1].end,
        "refined": tuning is not None,
        "windows": [
            {
                "start": window.start,
                "end": window.end,
                "names": window.names,
                "scores": window.scores,
                "none": bool(window.is_none),
            }
            for window in windows
        ],
    }
