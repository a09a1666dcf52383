from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from maxi.cli import main
from maxi.errors import MaxiError
from maxi.models.export import convert
from maxi.models.load import load_backbone
from maxi.models.siglip import Siglip, load_siglip
from maxi.models.video_clip import VideoCLIP, load_model
from models import write_tiny_clip, write_tiny_siglip

TEXTS = ["a photo of a horse", "A Person playing the Guitar.", "x", "", "riding a horse " * 9]


@pytest.fixture(scope="module", params=[1, 2], ids=["siglip", "siglip2"])
def folder(request, tmp_path_factory):
    return write_tiny_siglip(tmp_path_factory.mktemp("siglip"), generation=request.param)


@pytest.fixture(scope="module")
def siglip(folder) -> Siglip:
    return load_siglip(str(folder))


def pixels(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def cosines(model: Siglip) -> torch.Tensor:
    z_v = F.normalize(model.encode_image(pixels()), dim=-1)
    return z_v @ F.normalize(model.encode_text(model.tokenize(TEXTS)), dim=-1).T


@torch.no_grad()
def logits_of(folder: Path, ids: torch.Tensor) -> tuple[torch.Tensor, torch.nn.Module]:
    """What transformers itself makes of the folder."""
    from transformers import SiglipModel

    model, report = SiglipModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model(input_ids=ids, pixel_values=pixels()).logits_per_image, model


def test_logits_are_those_of_transformers(siglip, folder):
    theirs, model = logits_of(folder, siglip.tokenize(TEXTS)["input_ids"])
    ours = cosines(siglip) * model.logit_scale.exp() + model.logit_bias
    assert torch.allclose(ours.detach(), theirs, atol=1e-5)


def test_there_and_back(siglip, folder, tmp_path):
    told = convert(f"siglip:{folder}", tmp_path)
    again = load_backbone(str(tmp_path))
    assert told.endswith(again.fingerprint())
    assert again.fingerprint() == siglip.fingerprint()
    assert torch.equal(cosines(again), cosines(siglip))
    ids = siglip.tokenize(TEXTS)["input_ids"]
    assert torch.equal(logits_of(tmp_path, ids)[0], logits_of(folder, ids)[0])


def test_texts_are_small_letters_padded_to_the_models_length(siglip):
    ids = siglip.tokenize(TEXTS)["input_ids"]
    assert ids.shape == (len(TEXTS), 16)
    assert torch.equal(
        siglip.tokenize(["RIDING A HORSE"])["input_ids"],
        siglip.tokenize(["riding a horse"])["input_ids"],
    )
    end = siglip.tokenizer.eos_token
    alone = siglip.tokenize([f"horse {end} x"])["input_ids"][0].tolist()
    first = alone.index(siglip.tokenizer.eos_token_id)
    assert first > len(siglip.tokenizer("horse")["input_ids"]), "a text may not end itself"


@pytest.mark.parametrize("trainable", ["all", "head", "visual", "text"])
def test_freeze_trains_what_it_names(folder, trainable):
    model = VideoCLIP(load_siglip(str(folder)))
    names = model.freeze(trainable)
    z_v = model.encode_video(pixels(4).reshape(2, 2, 3, 32, 32))
    z_t = model.encode_text(model.backbone.tokenize(TEXTS))
    (z_v @ z_t.T).exp().sum().backward()
    learning = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning <= set(names)
    # Keys have no gradient through their bias: softmax forgets a shift of all scores.
    assert all(name.endswith("k_proj.bias") for name in set(names) - learning)
    assert not any("logit" in name for name in names)


def test_a_saved_model_keeps_its_temperature_and_kind(folder, tmp_path):
    VideoCLIP(load_siglip(str(folder)), sigma=0.05).save(tmp_path)
    again = load_model(str(tmp_path))
    assert again.backbone.kind == "siglip"
    assert again.logit_scale.exp().item() == pytest.approx(20)


@pytest.mark.slow
def test_onnx_gives_the_same_embeddings(folder, tmp_path):
    pytest.importorskip("onnxruntime")
    told = CliRunner().invoke(main, ["convert", str(folder), str(tmp_path), "--to", "onnx"])
    assert told.exit_code == 0, told.stderr
    assert {"image.onnx", "text.onnx"} <= {p.name for p in tmp_path.iterdir()}


def refuse(folder: Path, pattern: str) -> None:
    with pytest.raises(MaxiError, match=pattern) as caught:
        load_siglip(str(folder))
    assert "\n" not in str(caught.value)


def test_what_is_no_siglip_is_refused_in_a_sentence(folder, tmp_path):
    refuse(write_tiny_clip(tmp_path / "clip"), "of type 'clip'; pass a SigLIP of fixed resolution")
    with pytest.raises(MaxiError, match="is not a CLIP but 'siglip'; pass a CLIP, or --to hf"):
        convert(str(folder), tmp_path / "out", "open_clip")
    with pytest.raises(MaxiError, match="is 'objects'; pass a CLIP or a SigLIP"):
        convert("objects", tmp_path / "out")
    copy = write_tiny_siglip(tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "siglip2"}))
    refuse(copy, "of type 'siglip2'")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    folder = write_tiny_siglip(tmp_path)
    monkeypatch.setattr("maxi.models.siglip.find_spec", lambda name: None)
    refuse(folder, r'needs sentencepiece; run `pip install "maxi\[siglip\]"`')


@torch.no_grad()
def test_scale_and_bias_are_saved_as_they_were(folder, siglip, tmp_path):
    before = {n: b.clone() for n, b in siglip.named_buffers() if "logit" in n}
    VideoCLIP(load_siglip(str(folder)), sigma=0.05).save(tmp_path)
    after = {n: b for n, b in load_siglip(str(tmp_path)).named_buffers() if "logit" in n}
    assert set(before) == {"model.logit_scale", "model.logit_bias"}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_model(str(tmp_path)).logit_scale.exp().item() == pytest.approx(20)
