"""Once per test run: eight tiny videos, a tiny random CLIP, and home and cache folders that are nobody's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small only lose time by sharing work


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))


@pytest.fixture(autouse=True)
def _own_log_level() -> Iterator[None]:
    """`-q` of a test that runs the command line must not silence the warnings that a later one counts on."""
    yield
    logging.getLogger("maxi").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is most of the work of a tiny run; the tests of pages and the fixtures of modules draw."""
    if request.module.__name__ not in ("test_report", "test_page"):
        monkeypatch.setattr("maxi.reports.figures._draw", lambda *drawn, **how: "<svg></svg>")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models import write_tiny_clip

    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos in two class folders."""
    from media import write_video

    root = tmp_path_factory.mktemp("videos")
    for i in range(8):
        folder = root / ("riding a horse" if i % 2 else "playing guitar")
        folder.mkdir(exist_ok=True)
        write_video(folder / f"clip {i}.mp4", n_frames=6 + 3 * i, seed=i)
    return root


@pytest.fixture(scope="session")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("actions") / "actions.txt"
    path.write_text("playing guitar\nriding a horse\nhigh jump\n")
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips and official lists beside the project; tests that need them are skipped without."""
    default = Path(__file__).parents[1].parent / "shared"
    folder = Path(os.environ.get("MAXI_SHARED", default))
    if not (folder / "videos" / "manifest.csv").is_file():
        pytest.skip("no folder of real clips (MAXI_SHARED)")
    return folder
