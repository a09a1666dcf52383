"""`maxi heatmap`: cosines of patches as transformers alone gives them, in their places, on one scale of colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from maxi.cli import main
from maxi.method.heatmaps import heatmap
from maxi.models.video_clip import load_model
from maxi.reports.heatmap_pictures import coloured, scale_of
from maxi.video.decode import decode_frames, probe
from media import write_video


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4", 12, (96, 64))


def test_cosines_of_patches_are_those_of_transformers(video: Path, tiny_clip: Path) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    frames = decode_frames(video, [1, 5])
    crops, maps = heatmap(load_model(f"clip:{tiny_clip}"), frames, "a waving man")
    clip = CLIPModel.from_pretrained(tiny_clip).eval()
    images = CLIPImageProcessor.from_pretrained(tiny_clip)(
        [Image.fromarray(frame) for frame in frames], return_tensors="pt"
    )
    tokens = AutoTokenizer.from_pretrained(tiny_clip)(["a waving man"], return_tensors="pt")
    with torch.no_grad():
        hidden = clip.vision_model(**images).last_hidden_state[:, 1:]
        patches = clip.visual_projection(clip.vision_model.post_layernorm(hidden))
        text = clip.text_projection(clip.text_model(**tokens).pooler_output)[0]
    expected = torch.nn.functional.cosine_similarity(patches, text[None, None], dim=-1)
    side = maps.shape[1]
    # Patches come row by row, from the top.
    np.testing.assert_allclose(maps, expected.unflatten(1, (side, side)).numpy(), atol=1e-2)
    assert crops.shape[1] == crops.shape[2] == images["pixel_values"].shape[-1]


def test_colours_lie_where_the_patches_are() -> None:
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 0, 3] = 1  # the patch at the top right
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    (picture,) = coloured(grey, maps, 0.0, 1.0).astype(int)
    warmth = picture[..., 0] - picture[..., 2]  # red minus blue
    place = np.unravel_index(warmth.argmax(), warmth.shape)
    assert place[0] < 16
    assert place[1] >= 48
    assert scale_of({"a": maps, "b": maps - 0.5}) == (-0.5, 1.0)


def test_a_grid_and_a_short_video(video: Path, tiny_clip: Path, tmp_path: Path) -> None:
    line = ["-q", "heatmap", str(video), "--text", "clap é 動画", "-n", "3"]
    line += ["--models", f"clip:{tiny_clip}, {tiny_clip}"]
    done = CliRunner().invoke(main, [*line, "-o", str(tmp_path / "new" / "a.png")])
    assert done.exit_code == 0, done.stderr
    assert "3 frames, 2 models, colours from " in done.stdout
    with Image.open(tmp_path / "new" / "a.png") as picture:
        assert picture.height > 3 * 160  # the frames, and both models
    done = CliRunner().invoke(main, [*line, "-o", str(tmp_path / "b.mp4")])
    assert done.exit_code == 0, done.stderr
    assert probe(tmp_path / "b.mp4").n_frames == 3


def test_what_cannot_be_drawn_is_one_sentence(video: Path, tiny_clip: Path, tmp_path: Path) -> None:
    line = ["-q", "heatmap", str(video), "--text", "clap", "--models"]
    done = CliRunner().invoke(main, [*line, f"clip:{tiny_clip}", "-o", str(tmp_path / "a.gif")])
    assert done.exit_code == 1
    assert "the picture is a .png or an .mp4" in done.stderr
    for empty in (["--models", " , ", "--text", "clap"], ["--models", "objects", "--text", " "]):
        words = ["heatmap", str(video), *empty, "-o", str(tmp_path / "a.png")]
        assert CliRunner().invoke(main, words).exit_code == 2
    pytest.importorskip("efficientnet_lite_pytorch")
    done = CliRunner().invoke(main, [*line, "objects", "-o", str(tmp_path / "a.png")])
    assert done.exit_code == 1
    assert "has no patches in the space of texts; pass a CLIP" in done.stderr
    assert not (tmp_path / "a.png").exists()
