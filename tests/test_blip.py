from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from maxi.errors import MaxiError
from maxi.method import captioning
from maxi.method.captioning import unfinished
from maxi.miniature import scenes
from maxi.miniature.actions import ACTIONS
from maxi.models import blip as blips
from maxi.models.blip import Blip, load_blip, nearly_equal
from maxi.models.clip import CLIP_MEAN, CLIP_STD
from maxi.models.hugging_face import quiet_transformers
from maxi.models.video_clip import load_model
from maxi.progress import silent
from maxi.records import Caption, Video, read_jsonl
from maxi.settings import load_config
from maxi.stages.caption import caption_run
from maxi.stages.index import index_run, read_videos, start_run
from maxi.stages.job import open_job
from maxi.text.clean import clean
from media import write_video
from models import write_tiny_blip, write_tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def blip(folder):
    return load_blip(str(folder))


def plain(*greys: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """A frame of one grey for each number: uint8 (T, H, W, 3)."""
    return np.stack([np.full((*size, 3), grey, np.uint8) for grey in greys])


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return np.concatenate([plain(0, 90, 255), rng.integers(0, 256, (2, 40, 60, 3), np.uint8)])


def test_loads_from_its_folder_in_eval_mode(blip):
    assert type(blip.model).__name__ == "BlipForConditionalGeneration"
    assert {p.dtype for p in blip.model.parameters()} == {torch.float32}
    assert not any(module.training for module in blip.model.modules())


def test_the_same_captions_every_time(blip, folder, frames):
    captions = blip.caption(frames)
    assert len(set(captions)) == len(frames), "random weights tell these frames apart"
    assert blip.caption(frames) == captions == load_blip(str(folder)).caption(frames)


def test_a_batch_says_what_single_frames_say(blip, frames):
    assert blip.describe(frames) == [blip.describe(frame[None])[0] for frame in frames]


@torch.no_grad()
def greedy(blip: Blip, frame: np.ndarray, n_tokens: int) -> list[int]:
    """Ids after the first, each the likeliest after those before it, by whole forward passes."""
    image = Image.fromarray(frame).resize((32, 32), Image.Resampling.BICUBIC)
    pixels = (torch.tensor(np.array(image)) / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(
        CLIP_STD
    )
    text = blip.model.config.text_config
    ids = [text.bos_token_id]
    while len(ids) <= n_tokens and ids[-1] != text.sep_token_id:
        logits = blip.model(
            pixel_values=pixels.permute(2, 0, 1)[None], input_ids=torch.tensor([ids])
        ).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids[1:]


def test_captions_are_greedy_and_stay_within_the_models_positions(blip, frames):
    for frame, text in zip(frames, blip.describe(frames), strict=True):
        ids = greedy(blip, frame, n_tokens=23)  # 24 positions, one of them the beginning
        assert text == blip.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("published", [False, True])
def test_a_trained_one_says_what_it_learnt_and_ends(frames, tmp_path, published):
    learner = load_blip(str(write_tiny_blip(tmp_path, published=published)))
    texts = ["a photo of the horse", "person riding"]
    pixels = learner.processor(images=list(frames[:2]), return_tensors="pt")["pixel_values"]
    prompt = "a picture of " if published else ""
    tokens = learner.tokenizer([prompt + text for text in texts], padding=True, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    ids[:, 0] = learner.text_config.bos_token_id
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, : 4 if published else 1] = -100  # as BLIP's authors do: no loss on the prompt
    optimiser = torch.optim.AdamW(learner.model.parameters(), 1e-2)
    for _ in range(40):
        loss = learner.model(pixels, ids, mask, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with quiet_transformers():
        learner.model.save_pretrained(tmp_path)
    assert load_blip(str(tmp_path)).caption(frames[:2]) == texts


def test_in_bfloat16_as_on_a_gpu(folder, frames):
    half, _ = blips._read(folder, bfloat16=True)
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert len(half.describe(frames)) == len(frames)


def test_nearly_equal_frames_are_captioned_once(blip, monkeypatch):
    noise = np.random.default_rng(0).integers(-2, 3, (40, 60, 3))
    video = plain(90, 90, 90, 92, 92, 90)
    video[1] += noise.astype(np.uint8)  # as compression has it
    video[2, :8, :8] = 200  # a small thing has appeared
    assert nearly_equal(video) == [0, 0, 2, 3, 3, 5]
    assert nearly_equal(plain(*range(90, 96))) == [0, 1, 2, 3, 4, 5], "a slow fade is no standstill"

    seen = []
    describe = Blip.describe

    def spy(self, frames):
        seen.append(len(frames))
        return describe(self, frames)

    monkeypatch.setattr(Blip, "describe", spy)
    captions = blip.caption(video)
    assert seen == [4], "one batch"
    assert captions[0] == captions[1] == captions[5]
    assert captions[3] == captions[4]
    assert len(set(captions)) == 3


# In the caption stage


def test_frames_arrive_in_the_videos_own_size(folder, tiny_clip, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Blip,
        "caption_all",
        lambda self, videos: [seen.append(frames.shape) or ["x"] for frames in videos],
    )
    path = write_video(tmp_path / "large.mp4", n_frames=20, size=(640, 400))
    model = load_model(f"clip:{tiny_clip}")
    (row,) = captioning.caption(read_videos(path), model, f"blip:{folder}")
    assert (row.captions, row.source) == (("x",), "blip")
    assert seen == [(8, 400, 640, 3)]


def test_the_caption_stage(videos, copy, tiny_clip, tmp_path, monkeypatch):
    config = load_config(
        None,
        [f"captioner=blip:{copy}", "caption.n_frames=3", "workers=1"],
        backbone=f"clip:{tiny_clip}",
    )
    calls = []
    caption_all = Blip.caption_all

    def spy(self, videos):
        calls.append(len(videos))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return caption_all(self, videos)

    monkeypatch.setattr(Blip, "caption_all", spy)
    with open_job(tmp_path / "run", config, silent) as job:
        start_run(job, ["playing guitar", "riding a horse"])
        index_run(job, str(videos))
        with pytest.raises(KeyboardInterrupt):
            caption_run(job)
        rows = caption_run(job)
        assert calls == [4, 4, 4], "goes on where it stopped"
        assert caption_run(job) == rows == read_jsonl(job.run.captions, Caption)
        assert len(calls) == 3, "current captions are kept"
        assert len(rows) == 8
        assert all(row.source == "blip" and row.captions for row in rows)
        assert all(clean(text) == text for row in rows for text in row.captions)

        shutil.copytree(write_tiny_blip(tmp_path / "other", seed=1), copy, dirs_exist_ok=True)
        assert caption_run(job) != rows, "other weights, other captions"
        assert len(calls) == 5


def test_a_group_is_described_whole_after_a_break():
    videos = [Video(f"v{i}", f"{i}.mp4", 1, 1.0, 8, 8) for i in range(6)]
    ids = [
        [v.id for v in unfinished(videos, done, 4)] for done in ({"v0"}, {"v0", "v1", "v2", "v3"})
    ]
    assert ids == [[f"v{i}" for i in range(6)], ["v4", "v5"]]


def test_what_decides_the_captions_is_signed(folder, tmp_path):
    names = [path.name for path in captioning.source_files(f"blip:{folder}")]
    assert names == sorted(path.name for path in folder.iterdir())
    assert captioning.source_files("file:some.jsonl") == [Path("some.jsonl")]
    assert not captioning.source_files("retrieval")
    assert not captioning.source_files("my_captioner:motion")


# Where it comes from


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty hub cache and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["", "Salesforce/blip-image-captioning-large"])
def test_without_network_and_cache_one_sentence_names_another_choice(name, hub, capfd):
    with pytest.raises(MaxiError) as caught:
        load_blip(name)
    assert str(caught.value) == (
        "blip:Salesforce/blip-image-captioning-large is neither a local folder nor in the cache, and"
        " the hub cannot be reached; pass a local folder, or use `-s captioner=retrieval`"
    )
    assert capfd.readouterr() == ("", "")


def test_a_cached_model_needs_no_network(hub, folder, blip, frames):
    cached = hub / "models--someone--tiny"
    commit = "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    shutil.copytree(folder, cached / "snapshots" / commit)
    for name in ("someone/tiny", f"someone/tiny@{commit}"):
        assert load_blip(name).caption(frames) == blip.caption(frames)
    refuse(f"someone/tiny@{'1' * 40}", "the hub cannot be reached")
    refuse("./nothing/here", "no such folder, and not the id of a model")


def test_the_miniatures_captioner_lies_in_the_package():
    scene, _ = scenes.draw_still("test", 0, 13)
    still = np.stack(list(scenes.frames(scene, (96, 96), np.zeros(1))))
    (caption,) = load_blip("miniature").caption(still)
    assert {"with", "holding"} & set(caption.split())
    assert not any(action.name in caption for action in ACTIONS)


# What is refused


def refuse(name, pattern):
    with pytest.raises(MaxiError, match=pattern) as caught:
        load_blip(str(name))
    assert "\n" not in str(caught.value)


def edit(copy, **settings):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **settings}))


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: edit(f, model_type="clip"), "type 'clip', which captions no images"),
        (lambda f: edit(f, model_type=["blip"]), "which captions no images"),
        (lambda f: edit(f, text_config={}), "cannot be read|do not fit"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda f: (f / "preprocessor_config.json").write_text("[]"), "cannot be read"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "cannot be read"),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                (f / "model.safetensors").read_bytes()[:100_000]
            ),
            "cannot be read",
        ),
    ],
)
def test_a_damaged_folder_is_one_sentence(copy, damage, pattern):
    damage(copy)
    refuse(copy, pattern)


def test_other_models_are_refused(tmp_path, copy):
    refuse(write_tiny_clip(tmp_path / "clip"), "type 'clip', which captions no images")
    processor = json.loads((copy / "preprocessor_config.json").read_text())
    processor["size"] = {"height": 48, "width": 48}
    (copy / "preprocessor_config.json").write_text(json.dumps(processor))
    refuse(copy, r"cannot caption an image by itself \(The size of tensor")


def test_wrong_code_is_not_told_of_the_model(copy, monkeypatch):
    monkeypatch.setattr(Blip, "describe", lambda self: [])
    with pytest.raises(TypeError, match="positional argument"):
        load_blip(str(copy))
    monkeypatch.setattr(blips, "read_tokenizer", None)
    refuse(copy, "and report this if it is whole")


def test_weights_and_tokenizer_must_fit(copy):
    weights = load_file(copy / "model.safetensors")
    name = "text_decoder.bert.embeddings.word_embeddings.weight"
    lost = {k: v for k, v in weights.items() if k != "vision_model.post_layernorm.bias"}
    save_file(lost, copy / "model.safetensors", metadata={"format": "pt"})
    refuse(copy, r"missing vision_model\.post_layernorm\.bias\)")
    config = json.loads((copy / "config.json").read_text())
    few = {"vocab_size": 500, "bos_token_id": 1, "sep_token_id": 2, "pad_token_id": 2}
    edit(copy, text_config={**config["text_config"], **few})
    cut = {k: v[:500].clone() if len(v) == len(weights[name]) else v for k, v in weights.items()}
    save_file(cut, copy / "model.safetensors", metadata={"format": "pt"})
    refuse(copy, r"tokenizer has \d+ tokens, but the model has embeddings for 500")


def test_a_bin_file_is_read_as_tensors_only(copy, blip, frames):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    assert load_blip(str(copy)).caption(frames) == blip.caption(frames)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path(os.environ["HARM"]),)


def test_a_malicious_bin_file_is_refused_unexecuted(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    (copy / "model.safetensors").unlink()
    torch.save({"a": Harmful()}, copy / "pytorch_model.bin")
    refuse(copy, "something else than tensors, which is never executed")
    assert not (tmp_path / "harm").exists()
