"""Classify: recognise one video, or all of a folder or list, among any action names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maxi.errors import MaxiError
from maxi.method.classification import Classifier, Prediction
from maxi.progress import Progress, bar
from maxi.reports.refinement import load_refinement
from maxi.run import Run
from maxi.settings import load_config, load_run
from maxi.stages.job import fresh_model
from maxi.text.names import words
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
    plain: bool = False,
    device: str | None = None,
    progress: Progress = bar,
) -> Iterator[Prediction | MaxiError]:
    """Yield the predictions for a file, or for each video of a folder or list.

    `spec` is a run, a saved model or a backbone; a run also gives its action names, prompt, number of frames and
    refinement, which `plain` leaves out. For a file that cannot be decoded a MaxiError is yielded. Raises MaxiError
    when no file can be decoded.
    """
    run = Run(spec)
    if not run.config.is_file() and Run(run.folder.parent).model == run.folder:
        run = Run(run.folder.parent)  # the model folder of a run
    is_run = run.config.is_file()
    config = (
        load_run(run.config, device=device) if is_run else load_config(backbone=spec, device=device)
    )
    if actions is None and not run.actions.is_file():
        raise MaxiError(f"{spec} has no action names of its own; pass --actions FILE")
    names = read_names(actions or run.actions)
    if not config.keep_camel_case:
        names = [words(name) for name in names]
    is_one_file = Path(videos).is_file() and Path(videos).suffix.lower() in EXTENSIONS
    paths = [videos] if is_one_file else [str(s.path) for s in list_videos(videos)]
    model = fresh_model(config, spec)
    loaded = load_refinement(run) if is_run and not plain else None
    classifier = Classifier(
        model,
        names,
        prompt=prompt or config.eval.prompt,
        n_frames=config.eval.n_frames,
        k=k,
        others=list(shipped_book().texts) if none else (),
        tuning=loaded.tuning(run, model.backbone.fingerprint(), names) if loaded else None,
    )
    with Decoder(config.workers or None, config.deadline) as decoder:
        n_failed = 0
        for path in paths if is_one_file else progress(paths, len(paths), "classify"):
            try:
                yield from classifier.windows(path, decoder, window)
            except MaxiError as error:
                if is_one_file:
                    raise
                n_failed += 1
                yield error
    if n_failed == len(paths):
        raise MaxiError(
            f"none of the {n_failed} videos could be classified; `maxi check` lists what is wrong with them"
        )
