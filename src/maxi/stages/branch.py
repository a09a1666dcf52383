"""Branch: begin a run beside another one, from the files that its own settings leave as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

from maxi.config import Config
from maxi.run import Run, meta_path


def branch(main: Run, folder: Path, config: Config, own: Config) -> Run:
    """Copy into a folder what a run with the settings `own` shares with `main`, made with `config`; return the new run.

    Names and the list of videos are copied; matches, phrases and captions are where their settings are the same.
    Features are copied once.
    """
    run = Run(folder)
    run.create()
    shared = [main.actions, main.manifest]
    for stage, path in (
        ("match", main.matches),
        ("expand", main.phrases),
        ("caption", main.captions),
    ):
        if getattr(own, stage) == getattr(config, stage):
            shared.append(path)
    for path in shared:
        for file in (path, meta_path(path)):
            if file.exists():
                shutil.copy2(file, run.folder / file.name)
    if main.matches not in shared and main.features.is_dir() and not run.features.exists():
        shutil.copytree(main.features, run.features)
    return run
