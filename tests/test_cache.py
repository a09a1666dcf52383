"""`maxi cache` and training from it: sized before, resumed, checked; the same weights as from the files."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from maxi.cli import main
from maxi.config import Config
from maxi.errors import MaxiError
from maxi.progress import silent
from maxi.records import Bag, Video, read_jsonl, write_jsonl
from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.bag import bag_run
from maxi.stages.cache import cache_run, fill_cache, plan_cache
from maxi.stages.caption import caption_run
from maxi.stages.evaluate import evaluate_run
from maxi.stages.expand import expand_run
from maxi.stages.index import index_run, start_run
from maxi.stages.job import open_job
from maxi.stages.match import match_run
from maxi.stages.train import train_run
from maxi.training.distributed import World
from maxi.video.frame_store import FrameStore
from test_adapt import Interrupt, settings

Usage = namedtuple("Usage", "total used free")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def bagged(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run up to its bags."""
    out = tmp_path_factory.mktemp("runs") / "mine"
    with open_job(out, settings(tiny_clip), silent) as job:
        start_run(job, ["playing guitar", "riding a horse", "high jump"])
        index_run(job, str(videos))
        for stage in (expand_run, match_run, caption_run, bag_run):
            stage(job)
    return job.run


@pytest.fixture
def copy(bagged: Run, tmp_path: Path) -> Run:
    shutil.copytree(bagged.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def stored(out: Run, config: Config) -> FrameStore:
    return FrameStore(out.frames, config.cache)


def train(out: Run, config: Config) -> dict[str, torch.Tensor]:
    with open_job(out.folder, config, silent) as job:
        train_run(job)
    return load_file(out.model / "model.safetensors")


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def damage_first(store: FrameStore) -> str:
    """Change a byte of every frame of the first video, because ids decide which frames are drawn; return its id."""
    video = next(iter(store))
    path = store.folder / "shard-00000.bin"
    data = bytearray(path.read_bytes())
    frame = store.n_bytes(video) // store.n_frames(video)
    for start in range(0, store.n_bytes(video), frame):
        data[start] ^= 1
    path.write_bytes(data)
    return video


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_the_size_is_told_before(kind: str, copy: Run) -> None:
    told = run("-q", "cache", copy.folder, "--format", kind, "--dry-run")
    assert told.exit_code == 0, told.output
    assert not copy.frames.exists()
    assert "cache:\n  format: none" in copy.config.read_text()
    done = run("-q", "cache", copy.folder, "--format", kind)
    assert done.exit_code == 0, done.output
    assert told.stdout == done.stdout.replace(" in ", " to be written to ")
    assert f"cache:\n  format: {kind}" in copy.config.read_text()
    again = run("-q", "cache", copy.folder, "--dry-run")
    assert again.stdout.startswith("0 videos, 0.0 kB to be written")


def test_a_disk_without_room_is_told_before(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(copy.config, ["cache.format=raw"])
    with open_job(copy.folder, config, silent) as job:
        needed = plan_cache(job).n_bytes
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, needed - 1))
        with pytest.raises(
            MaxiError, match=r"frames needs .* for 7 videos and the disk has .* left"
        ):
            cache_run(job)
        assert not copy.frames.exists()
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, needed))
        assert cache_run(job) == (7, needed)
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 0))
        assert cache_run(job) == (7, needed)


def test_without_bags_it_says_what_to_run(copy: Run) -> None:
    copy.bags.unlink()
    done = run("-q", "cache", copy.folder)
    assert done.exit_code == 1
    assert "bags.jsonl does not exist; run `maxi bag` first" in done.stderr


def test_training_from_all_frames_gives_the_weights_of_the_files(copy: Run) -> None:
    config = load_config(copy.config, ["cache.format=raw", "cache.n_frames=27"])
    assert max(v.n_frames for v in read_jsonl(copy.manifest, Video)) == 27
    cached = train(copy, config)
    assert json.loads(copy.training.read_text())["data_share"] <= 1
    files = load_config(copy.config)
    with (
        open_job(copy.folder, files, silent) as job,
        pytest.raises(MaxiError, match="train"),
    ):
        evaluate_run(job)  # a model of other inputs
    assert same(train(copy, files), cached)


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_weights(
    kind: str, bagged: Run, tmp_path: Path
) -> None:
    config = load_config(
        bagged.config,
        [f"cache.format={kind}", "cache.n_frames=4", "short_side=40", "checkpoint_seconds=0"],
    )
    runs = [Run(tmp_path / name) for name in ("whole", "broken")]
    for out in runs:
        shutil.copytree(bagged.folder, out.folder)
    whole, broken = runs
    expected = train(whole, config)
    for stage, n in (("cache", 2), ("train", 2)):
        with (
            open_job(broken.folder, config, Interrupt(stage, n)) as job,
            pytest.raises(KeyboardInterrupt),
        ):
            train_run(job)
    assert same(train(broken, config), expected)
    files = [stored(out, config).folder / "shard-00000.bin" for out in runs]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_damage_is_found_and_mended(copy: Run, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(copy.config, ["cache.format=raw"])
    assert run("-q", "cache", copy.folder).exit_code == 0
    store = stored(copy, config)
    before = {video: store.read(video, [0]) for video in store}
    assert "nothing is damaged" in run("-q", "cache", copy.folder, "--check").stdout
    lost = damage_first(store)
    with caplog.at_level("WARNING", "maxi"):
        train(copy, config)
    assert "is left out: damaged in" in caplog.text
    found = run("-q", "cache", copy.folder, "--check")
    assert found.exit_code == 1
    (line,) = found.stdout.splitlines()
    assert line.startswith(next(v.path for v in read_jsonl(copy.manifest, Video) if v.id == lost))
    assert set(before) - set(stored(copy, config)) == {lost}
    assert run("-q", "cache", copy.folder).exit_code == 0
    mended = stored(copy, config)
    assert all((mended.read(video, [0]) == before[video]).all() for video in before)
    assert run("-q", "cache", copy.folder, "--check").exit_code == 0


def test_a_video_that_vanished_costs_only_itself(
    copy: Run, caplog: pytest.LogCaptureFixture
) -> None:
    bags, videos = read_jsonl(copy.bags, Bag), read_jsonl(copy.manifest, Video)
    gone = bags[2].video
    write_jsonl(copy.manifest, [replace(v, path="gone.mp4") if v.id == gone else v for v in videos])
    config = load_config(copy.config, ["cache.format=raw"])
    with open_job(copy.folder, config, silent) as job:
        assert cache_run(job).videos == len(bags) - 1
    assert "1 videos can no longer be read, first gone.mp4" in caplog.text
    assert list(stored(copy, config).lost) == [gone]
    train(copy, config)
    assert json.loads(copy.training.read_text())["videos"] == len(bags) - 1


def test_several_processes_need_a_whole_cache(copy: Run) -> None:
    config = load_config(copy.config, ["cache.format=raw"])
    videos = read_jsonl(copy.manifest, Video)
    with open_job(copy.folder, config, silent) as job:
        job.world = World(1, 2)
        with pytest.raises(MaxiError, match=r"8 of 8 videos are not in the cache; run `maxi cache"):
            fill_cache(job, videos)
        job.world = World()
        videos[3] = replace(videos[3], path="gone.mp4")
        fill_cache(job, videos)
        job.world = World(1, 2)
        assert set(fill_cache(job, videos)) == {v.id for v in videos} - {videos[3].id}


def test_labels_reach_no_frame(copy: Run) -> None:
    config = load_config(copy.config, ["cache.format=raw"])
    with open_job(copy.folder, config, silent) as job:
        cache_run(job)
        before = [path.read_bytes() for path in sorted(stored(copy, config).folder.iterdir())]
        shutil.rmtree(copy.frames)
        videos = read_jsonl(copy.manifest, Video)
        mixed = [
            replace(v, label=w.label) for v, w in zip(videos, videos[3:] + videos, strict=False)
        ]
        assert [v.label for v in mixed] != [v.label for v in videos]
        write_jsonl(copy.manifest, mixed)
        cache_run(job)
    assert [p.read_bytes() for p in sorted(stored(copy, config).folder.iterdir())] == before


def test_the_head_has_a_cache_of_its_own(copy: Run) -> None:
    done = run("-q", "cache", copy.folder, "-s", "trainable=head")
    assert done.exit_code == 1
    assert "cache.format raw and train.trainable head conflict" in done.stderr
