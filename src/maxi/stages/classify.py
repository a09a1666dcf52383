"""Classify: one video, or all of a folder or list, against any action names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maxi.errors import MaxiError
from maxi.method.classification import Classifier, Prediction
from maxi.progress import Progress, bar
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.job import fresh_model
from maxi.text.phrasebook import shipped_book
from maxi.video.sources import EXTENSIONS, list_videos, read_names
from maxi.video.workers import Decoder


def classify_videos(
    videos: str,
    spec: str,
    *,
    actions: Path | None = None,
    window: float = 30.0,
    prompt: str | None = None,
    k: int = 5,
    none: bool = False,
    device: str | None = None,
    progress: Progress = bar,
) -> Iterator[Prediction | MaxiError]:
    """Predictions for a file, or each video of a folder or list; a run brings its names, prompt and frames along.

    A file that cannot be decoded gives a MaxiError in place of predictions; alone, it is raised.
    """
    run = Run(spec)
    if not run.config.is_file() and Run(run.folder.parent).model == run.folder:
        run = Run(run.folder.parent)  # the model folder of a run
    own = run.config.is_file()
    config = load_config(run.config if own else None, backbone=None if own else spec, device=device)
    if actions is None and not run.actions.is_file():
        raise MaxiError(f"{spec} has no action names of its own; pass --actions FILE")
    names = read_names(actions or run.actions)
    alone = Path(videos).is_file() and Path(videos).suffix.lower() in EXTENSIONS
    paths = [videos] if alone else [str(s.path) for s in list_videos(videos)]
    model = fresh_model(config, spec)
    classifier = Classifier(
        model,
        names,
        prompt=prompt or config.eval.prompt,
        n_frames=config.eval.n_frames,
        k=k,
        others=list(shipped_book().texts) if none else (),
    )
    with Decoder(config.workers or None, config.deadline) as decoder:
        for path in paths if alone else progress(paths, len(paths), "classify"):
            try:
                yield from classifier.windows(path, decoder, window)
            except MaxiError as error:
                if alone:
                    raise
                yield error
