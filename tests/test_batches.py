"""Batches: who meets whom, which texts, which mask, and prefetching."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from maxi.config import CacheConfig, TrainConfig
from maxi.errors import MaxiError
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.records import Bag, BagText, Video
from maxi.training.batches import collate_texts, decoded_clips, prefetch
from maxi.training.schedule import Step, epoch_sizes, n_batches, schedule
from maxi.training.stored_clips import stored_clips
from maxi.video.frame_store import FrameStore, pack, stored_indices
from maxi.video.workers import Answer, Decoder, Request
from media import write_video


def make_bags(n: int) -> list[Bag]:
    return [
        Bag(
            f"v{i:03}",
            f"name {i % 3}",
            tuple(BagText(f"text {i % 5} {j}", "hand") for j in range(i % 7)),
        )
        for i in range(n)
    ]


CONFIG = TrainConfig(batch_size=8, epochs=3, n_bag=4)


def test_every_epoch_has_every_video_once_in_even_batches() -> None:
    steps = list(schedule(make_bags(21), CONFIG, seed=0))
    assert [s.number for s in steps] == list(range(9))
    for epoch in range(3):
        batches = [s.bags for s in steps if s.epoch == epoch]
        assert sorted(map(len, batches)) == [7, 7, 7]
        assert len({b.video for b in itertools.chain(*batches)}) == 21
    assert [b.video for b in steps[0].bags] != [b.video for b in steps[3].bags]


@pytest.mark.parametrize(
    ("n", "size", "batches"), [(3, 256, 1), (256, 256, 1), (257, 256, 2), (383, 256, 2), (9, 4, 3)]
)
def test_a_batch_is_no_small_rest_and_never_above_its_size(n: int, size: int, batches: int) -> None:
    config = TrainConfig(batch_size=size, epochs=1)
    sizes = [len(step.bags) for step in schedule(make_bags(n), config, seed=0)]
    assert n_batches(n, size) == len(sizes) == batches
    assert sum(sizes) == n
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_no_video_is_alone_in_a_batch() -> None:
    for n, size in itertools.product(range(2, 30), range(2, 9)):
        steps = list(schedule(make_bags(n), TrainConfig(batch_size=size, epochs=1), seed=0))
        left_over = n % 2 if size == 2 and n > 2 else 0
        assert sum(len(step.bags) for step in steps) == n - left_over
        assert all(2 <= len(step.bags) <= size for step in steps)
    pairs = schedule(make_bags(5), TrainConfig(batch_size=2, epochs=20), seed=0)
    assert {bag.video for step in pairs for bag in step.bags} == {f"v{i:03}" for i in range(5)}


def test_the_schedule_ignores_the_order_of_its_bags_and_resumes_anywhere() -> None:
    bags = make_bags(21)
    steps = list(schedule(bags, CONFIG, seed=0))
    assert list(schedule(bags[::-1], CONFIG, seed=0)) == steps
    for start in (0, 1, 3, 8):
        assert list(schedule(bags, CONFIG, seed=0, start=start)) == steps[start:]


def test_texts_of_a_step() -> None:
    step = next(schedule(make_bags(21), CONFIG, seed=0))
    texts, index, weight, positives = collate_texts(step, CONFIG, seed=0)
    mask = weight > 0
    assert set(weight.unique().tolist()) == {0, 1}
    assert len(set(texts)) == len(texts)
    assert index.shape == mask.shape == (7, int(mask.sum(1).max()))
    for i, bag in enumerate(step.bags):
        prompts = [texts[j] for j in index[i][mask[i]]]
        assert len(prompts) == max(1, min(4, len(bag.texts)))
        if bag.texts:
            assert all(p.startswith(f"a photo of {bag.name}. ") for p in prompts)
        else:
            assert prompts == [f"a photo of {bag.name}."]
        assert positives[i].tolist() == [other.name == bag.name for other in step.bags]
    assert positives.dtype == mask.dtype == torch.bool


def test_weights_of_texts_reach_their_places() -> None:
    bags = (
        Bag("a", "run", (BagText("jog", "hand", 0.5), BagText("dash", "hand"))),
        Bag("b", "sit", (BagText("rest", "hand", 2.0, "sleep"),)),
    )
    texts, index, weight, _ = collate_texts(Step(0, 0, bags), CONFIG, seed=0)
    assert [texts[j].split(". ")[1] for j in index[0]] == ["jog.", "dash."]
    assert weight.tolist() == [[0.5, 1.0], [2.0, 0.0]]
    assert texts[index[1, 0]] == "a photo of sleep. rest."


def test_prefetch_passes_items_and_errors_on() -> None:
    assert list(prefetch(iter(range(50)), ahead=3)) == list(range(50))

    def broken():
        yield 1
        raise ValueError("no")

    stream = prefetch(broken())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="no"):
        next(stream)


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> VideoCLIP:
    return load_model(f"clip:{tiny_clip}")


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(1) as decoder:
        yield decoder


def make_videos(folder: Path, n: int) -> list[Video]:
    folder.mkdir(parents=True)
    source = write_video(folder / "source.mp4", n_frames=12)
    videos = []
    for i in range(n):
        path = folder / f"{i}.mp4"
        path.hardlink_to(source)
        videos.append(Video(f"v{i:03}", str(path), 12, 10.0, 64, 48))
    return videos


CLIPS = TrainConfig(batch_size=9, epochs=1, n_frames=2)


def test_clips_are_queued_as_bytes(model: VideoCLIP, decoder: Decoder, tmp_path: Path) -> None:
    batches = decoded_clips(model, make_videos(tmp_path / "v", 3), decoder, CLIPS, seed=0)
    ((step, clips),) = batches(schedule(make_bags(3), CLIPS, seed=0))
    assert clips.shape == (3, 2, 3, 32, 32)
    assert clips.dtype == torch.uint8
    assert clips.device.type == "cpu"
    ((_, again),) = batches([step])
    assert torch.equal(clips, again)


class Counting(Decoder):
    """Counts what is asked of it."""

    n = 0

    def map(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Answer | MaxiError]]:
        for answer in super().map(requests):
            self.n += 1
            yield answer


def test_decoding_some_epochs_ahead_changes_no_clip(
    model: VideoCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, config = make_videos(tmp_path / "v", 9), CLIPS.model_copy(update={"epochs": 5})
    one_epoch = 9 * 2 * 3 * 32 * 32
    found = {}
    for n_epochs in (0, 1, 2, 5):
        monkeypatch.setattr("maxi.training.batches.CLIPS_AHEAD", n_epochs * one_epoch)
        with Counting(1) as decoder:
            batches = decoded_clips(model, videos, decoder, config, seed=0)
            found[n_epochs] = [c for _, c in batches(schedule(make_bags(9), config, 0, start=1))]
        assert decoder.n == {0: 36, 1: 36, 2: 18, 5: 9}[n_epochs]
    for clips in found.values():
        assert all(torch.equal(a, b) for a, b in zip(clips, found[1], strict=True))


class Flaky(Decoder):
    """Fails on every file once."""

    def __init__(self) -> None:
        super().__init__(1)
        self.seen: set[str | Path] = set()

    def map(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Answer | MaxiError]]:
        for request, answer in super().map(requests):
            first = request.path not in self.seen
            self.seen.add(request.path)
            yield request, MaxiError("took too long") if first else answer


def test_a_failure_that_passes_changes_nothing(
    model: VideoCLIP, decoder: Decoder, tmp_path: Path
) -> None:
    videos = make_videos(tmp_path / "v", 4)
    steps = list(schedule(make_bags(4), CLIPS, seed=0))
    ((_, expected),) = decoded_clips(model, videos, decoder, CLIPS, seed=0)(steps)
    with Flaky() as flaky:
        ((step, clips),) = decoded_clips(model, videos, flaky, CLIPS, seed=0)(steps)
    assert step == steps[0]
    assert torch.equal(clips, expected)


def test_a_lost_video_is_left_out_with_one_warning(
    model: VideoCLIP, decoder: Decoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = make_videos(tmp_path / "v", 9)
    Path(videos[4].path).unlink()
    config = CLIPS.model_copy(update={"epochs": 2})
    with caplog.at_level(logging.WARNING, "maxi"):
        done = list(
            decoded_clips(model, videos, decoder, config, seed=0)(
                schedule(make_bags(9), config, seed=0)
            )
        )
    assert [len(clips) for _, clips in done] == [len(step.bags) for step, _ in done] == [8, 8]
    assert "v004" not in {bag.video for step, _ in done for bag in step.bags}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"{videos[4].path} can no longer be read and is left out: ")


def test_many_lost_videos_end_the_run(model: VideoCLIP, decoder: Decoder, tmp_path: Path) -> None:
    videos = make_videos(tmp_path / "v", 20)
    for video in videos[:6]:
        Path(video.path).unlink()
    steps = list(schedule(make_bags(20), CLIPS, seed=0))
    with pytest.raises(
        MaxiError,
        match=r"^6 of 20 videos can no longer be read, first .*\.mp4 \(.*; check the disk",
    ):
        list(decoded_clips(model, videos, decoder, CLIPS, seed=0)(steps))
    patient = decoded_clips(model, videos, decoder, CLIPS, seed=0, max_lost=0.5)
    assert sum(len(clips) for _, clips in patient(steps)) == 14


def test_a_batch_without_any_video_ends_the_run(
    model: VideoCLIP, decoder: Decoder, tmp_path: Path
) -> None:
    videos = make_videos(tmp_path / "v", 2)
    for video in videos:
        Path(video.path).unlink()
    steps = list(schedule(make_bags(2), CLIPS, seed=0))
    with pytest.raises(MaxiError, match=r"^2 of 2 videos can no longer be read"):
        list(decoded_clips(model, videos, decoder, CLIPS, seed=0)(steps))


def store_of(
    folder: Path, videos: list[Video], decoder: Decoder, config: CacheConfig
) -> FrameStore:
    store = FrameStore(folder, config)
    for video in videos:
        frames = decoder.one(Request(video.path, stored_indices(video, config)))
        assert isinstance(frames, np.ndarray)
        store.append(video.id, pack(frames, config))
    store.close()
    return store


@pytest.mark.parametrize("n_threads", [1, 3])
def test_clips_of_stored_frames_are_those_of_files(
    n_threads: int, model: VideoCLIP, decoder: Decoder, tmp_path: Path
) -> None:
    videos = make_videos(tmp_path / "v", 9)
    config = CLIPS.model_copy(update={"epochs": 2})
    store = store_of(tmp_path, videos, decoder, CacheConfig(format="raw", n_frames=12))
    steps = list(schedule(make_bags(9), config, seed=0))
    expected = list(decoded_clips(model, videos, decoder, config, seed=0)(steps))
    batches = stored_clips(model, videos, store, config, seed=0, n_threads=n_threads)
    for (step, clips), (other, same) in zip(batches(steps), expected, strict=True):
        assert step == other
        assert torch.equal(clips, same)


def test_damaged_frames_cost_their_videos_alone(
    model: VideoCLIP, decoder: Decoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos, config = make_videos(tmp_path / "v", 12), CLIPS.model_copy(update={"epochs": 2})
    store = store_of(tmp_path, videos, decoder, CacheConfig(format="raw", n_frames=2))
    steps = list(schedule(make_bags(12), config, seed=0))
    whole = [
        clips for _, clips in stored_clips(model, videos, store, config, 0, n_threads=2)(steps)
    ]
    path = store.folder / "shard-00000.bin"
    n_bytes = store.n_bytes("v000")

    def damage(video: int) -> None:
        data = bytearray(path.read_bytes())
        data[video * n_bytes + 5] ^= 1
        path.write_bytes(data)

    damage(4)
    with caplog.at_level(logging.WARNING, "maxi"):
        done = list(stored_clips(model, videos, store, config, 0, n_threads=2)(steps))
    for before, (step, clips), full in zip(steps, done, whole, strict=True):
        kept = [i for i, bag in enumerate(before.bags) if bag.video != "v004"]
        assert [bag.video for bag in step.bags] == [before.bags[i].video for i in kept]
        assert torch.equal(clips, full[kept])
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(
        f"{videos[4].path} can no longer be read and is left out: damaged in "
    )
    for video in (0, 1, 2, 3, 5):
        damage(video)
    with pytest.raises(MaxiError, match=r"^6 of 12 videos can no longer be read"):
        list(stored_clips(model, videos, store, config, 0, n_threads=2)(steps))


def test_prefetch_stays_a_little_ahead() -> None:
    made: list[int] = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    stream = prefetch(items(), ahead=2)
    next(stream)
    import time

    time.sleep(0.2)
    assert len(made) <= 5
    stream.close()


def test_a_curriculum_begins_with_the_most_confident_and_ends_with_all() -> None:
    config = TrainConfig(batch_size=4, epochs=4, curriculum=0.5)
    assert epoch_sizes(16, config) == [8, 12, 16, 16]
    bags = [Bag(f"v{i}", "run") for i in range(16)]
    steps = list(schedule(bags, config, 0))
    assert [s.epoch for s in steps] == [0] * 2 + [1] * 3 + [2] * 4 + [3] * 4
    assert [s.number for s in steps if s.ends] == [1, 4, 8, 12]
    assert {b.video for s in steps[:2] for b in s.bags} == {f"v{i}" for i in range(8)}
    for start in range(14):
        assert list(schedule(bags, config, 0, start)) == steps[start:]


def test_grades_are_the_weights_of_soft_matching() -> None:
    bags = (
        Bag("a", "run", (BagText("jog", "hand"), BagText("leap", "hand", 0.5, "jump"))),
        Bag("b", "jump", (BagText("hop", "hand"), BagText("stroll", "hand", 0.25, "walk"))),
        Bag("c", "run", (BagText("x", "hand", 4.0, "jump"), BagText("y", "hand", 0.1, "jump"))),
    )
    config = TrainConfig(graded_positives=True)
    *_, positives = collate_texts(Step(0, 0, bags), config, 0)
    assert positives.tolist() == [[1, 0.5, 1], [0, 1, 0], [1, 1, 1]]
