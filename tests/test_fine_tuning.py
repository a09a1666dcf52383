"""From Python: training takes bags and videos as public functions make them, and is gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import maxi
from maxi.progress import silent
from maxi.records import Bag, BagText, Video

CONFIG = maxi.TrainConfig(
    batch_size=4, epochs=2, warmup_epochs=1, n_bag=2, n_frames=2, n_views=2, lr=1e-3
)


@pytest.fixture(scope="module")
def rows(videos: Path) -> list[Video]:
    return maxi.read_videos(videos)


def bags_of(rows: list[Video]) -> list[Bag]:
    names = ("playing guitar", "riding a horse")
    texts = [(BagText(f"text {i} {j}", "hand") for j in range(3)) for i in range(len(rows))]
    return [Bag(v.id, names[i % 2], tuple(texts[i])) for i, v in enumerate(rows)]


def trained(clip: Path, rows: list[Video], folder: Path, trainable: str) -> dict[str, Tensor]:
    model = maxi.load_model(f"clip:{clip}")
    config = CONFIG.model_copy(update={"trainable": trainable})
    bags = bags_of(rows)[:-1]  # of one video there is no bag
    maxi.train(model, bags, rows, config, folder=folder, progress=silent)
    return model.state_dict()


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_the_same_call_again_has_nothing_left_to_do(
    trainable: str, tiny_clip: Path, rows: list[Video], tmp_path: Path
) -> None:
    before = maxi.load_model(f"clip:{tiny_clip}").state_dict()
    first = trained(tiny_clip, rows, tmp_path, trainable)
    changed = {name for name, tensor in first.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert trainable == "all" or all("projection" in name for name in changed)
    written = (tmp_path / "train.jsonl").read_bytes()
    again = trained(tiny_clip, rows, tmp_path, trainable)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert (tmp_path / "train.jsonl").read_bytes() == written


def test_a_head_that_left_all_bounds_is_refused(
    tiny_clip: Path, rows: list[Video], tmp_path: Path
) -> None:
    model = maxi.load_model(f"clip:{tiny_clip}")
    config = CONFIG.model_copy(update={"trainable": "head", "lr": 1e30, "epochs": 1})
    config = config.model_copy(update={"batch_size": 8, "warmup_epochs": 0})
    with pytest.raises(maxi.MaxiError, match=r"^step 0: the weights .* not finite"):
        maxi.train(model, bags_of(rows), rows, config, folder=tmp_path, progress=silent)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_bag_of_no_given_video_is_told(
    tiny_clip: Path, rows: list[Video], tmp_path: Path
) -> None:
    model = maxi.load_model(f"clip:{tiny_clip}")
    with pytest.raises(
        maxi.MaxiError, match=f"videos of 1 bags are not given, first '{rows[0].id}'"
    ):
        maxi.train(model, bags_of(rows), rows[1:], CONFIG, folder=tmp_path)


def test_videos_that_cannot_be_read_are_left_out_or_named(
    tiny_clip: Path, videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(maxi.MaxiError, match="none of the 1 videos can be read; see `maxi check`"):
        maxi.read_videos(broken)
    paths = [broken, next(videos.rglob("*.mp4"))]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    (video,) = maxi.read_videos(tmp_path / "list.txt")
    assert "1 files are unreadable or end early: see `maxi check`" in caplog.text
    lost = replace(video, path=str(broken))
    model = maxi.load_model(f"clip:{tiny_clip}")
    with pytest.raises(maxi.MaxiError, match=r"broken\.mp4 can no longer be read"):
        maxi.embed_videos(model, [lost])
    with pytest.raises(maxi.MaxiError, match=r"broken\.mp4 can no longer be read"):
        maxi.caption([lost], model)
