from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from maxi.errors import MaxiError
from maxi.features.embedding import trunk_digest
from maxi.models.clip import load_clip
from maxi.models.load import load_backbone, saved_beside
from maxi.models.video_clip import VideoCLIP, load_model
from models import write_tiny_clip

TEXTS = [
    "a photo of a horse",
    "a person playing the guitar.",
    "x",
    "",
    "ünïcode 12, and more! of it",
]
N_HEADS, N_LAYERS = 4, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(str(folder))


def pixels(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


# An independent forward pass, written from the published layout of CLIP.


def layer_norm(x, weights, name):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def block(x, weights, name, *, causal):
    n_batch, length, width = x.shape
    y = layer_norm(x, weights, f"{name}.layer_norm1")
    q, k, v = (
        linear(y, weights, f"{name}.self_attn.{part}_proj")
        .reshape(n_batch, length, N_HEADS, width // N_HEADS)
        .transpose(1, 2)
        for part in "qkv"
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // N_HEADS)
    if causal:
        later = torch.arange(length)[None, :] > torch.arange(length)[:, None]
        scores = scores.masked_fill(later, -math.inf)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n_batch, length, width)
    x = x + linear(mixed, weights, f"{name}.self_attn.out_proj")
    y = linear(layer_norm(x, weights, f"{name}.layer_norm2"), weights, f"{name}.mlp.fc1")
    y = y * torch.sigmoid(1.702 * y)  # quick GELU
    return x + linear(y, weights, f"{name}.mlp.fc2")


def vision_tokens(weights, images, patch=8):
    n_batch, n_side = len(images), images.shape[-1] // patch
    kernel = weights["vision_model.embeddings.patch_embedding.weight"]
    patches = images.reshape(n_batch, 3, n_side, patch, n_side, patch).permute(0, 2, 4, 1, 3, 5)
    x = patches.reshape(n_batch, n_side * n_side, -1) @ kernel.reshape(len(kernel), -1).T
    first = weights["vision_model.embeddings.class_embedding"].expand(n_batch, 1, -1)
    x = torch.cat([first, x], 1) + weights["vision_model.embeddings.position_embedding.weight"]
    x = layer_norm(x, weights, "vision_model.pre_layrnorm")
    for i in range(N_LAYERS):
        x = block(x, weights, f"vision_model.encoder.layers.{i}", causal=False)
    return layer_norm(x, weights, "vision_model.post_layernorm")


def reference_image(weights, images):
    return vision_tokens(weights, images)[:, 0] @ weights["visual_projection.weight"].T


def reference_text(weights, ids, end):
    """One text at a time and without padding: `ids` ends with the end-of-text token."""
    assert ids[-1] == end
    x = weights["text_model.embeddings.token_embedding.weight"][ids]
    x = (x + weights["text_model.embeddings.position_embedding.weight"][: len(ids)])[None]
    for i in range(N_LAYERS):
        x = block(x, weights, f"text_model.encoder.layers.{i}", causal=True)
    x = layer_norm(x, weights, "text_model.final_layer_norm")
    return x[0, -1] @ weights["text_projection.weight"].T


@torch.no_grad()
def test_image_tower_is_the_published_one(clip, folder):
    weights = load_file(folder / "model.safetensors")
    expected = reference_image(weights, pixels())
    torch.testing.assert_close(clip.encode_image(pixels()), expected, rtol=1e-4, atol=1e-4)
    trunk = clip.image_trunk(pixels())
    torch.testing.assert_close(clip.image_head(trunk), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("legacy_eos", [False, True])
def test_text_tower_is_the_published_one(tmp_path, legacy_eos):
    folder = write_tiny_clip(tmp_path, legacy_eos=legacy_eos)
    clip, weights = load_clip(str(folder)), load_file(folder / "model.safetensors")
    end = clip.tokenizer.eos_token_id
    tokens = clip.tokenize(TEXTS)
    assert len({int((row == end).sum()) for row in tokens["input_ids"]}) > 1, "some are padded"
    for text, features in zip(TEXTS, clip.encode_text(tokens), strict=True):
        ids = clip.tokenizer(text, truncation=True, max_length=16)["input_ids"]
        torch.testing.assert_close(
            features, reference_text(weights, ids, end), rtol=1e-4, atol=1e-4
        )


@torch.no_grad()
def test_padding_changes_no_text(clip):
    together = clip.encode_text(clip.tokenize(TEXTS))
    alone = torch.cat([clip.encode_text(clip.tokenize([text])) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_tokens_are_cut_at_the_models_limit_and_keep_their_end(clip):
    ids = clip.tokenize(["riding a horse " * 30])["input_ids"]
    assert ids.shape == (1, 16)
    assert ids[0, -1] == clip.tokenizer.eos_token_id
    assert clip.tokenize(["x", "a photo"])["input_ids"].shape == (2, 4)


def test_saved_and_loaded_bit_for_bit(folder, tmp_path):
    clip = load_clip(str(folder))
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(0.01)
    clip.mean, clip.std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.25)
    clip.save(tmp_path / "model")
    again = load_clip(str(tmp_path / "model"))
    assert again.fingerprint() == clip.fingerprint() != load_clip(str(folder)).fingerprint()
    assert (again.mean, again.std, again.resize_to) == (clip.mean, clip.std, 32)
    assert torch.equal(again.tokenize(TEXTS)["input_ids"], clip.tokenize(TEXTS)["input_ids"])
    with torch.no_grad():
        assert torch.equal(again.encode_image(pixels()), clip.encode_image(pixels()))
    assert not [p for p in (tmp_path / "model").iterdir() if p.is_dir()], "nothing is left over"


def test_a_saved_model_is_read_by_transformers(clip, tmp_path):
    from transformers import CLIPModel

    clip.save(tmp_path)
    model, report = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        theirs = model.get_image_features(pixel_values=pixels()).pooler_output
        torch.testing.assert_close(theirs, clip.encode_image(pixels()), rtol=1e-5, atol=1e-5)


def test_half_precision_files_are_read_as_float32_in_eval_mode(copy):
    file = copy / "model.safetensors"
    save_file({k: v.half() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    clip = load_clip(str(copy))
    assert {p.dtype for p in clip.parameters()} == {torch.float32}
    assert not any(module.training for module in clip.modules())


@torch.no_grad()
def test_dropout_is_off_even_in_training(copy):
    config = json.loads((copy / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower]["attention_dropout"] = 0.5
    (copy / "config.json").write_text(json.dumps(config))
    clip = load_clip(str(copy)).train()
    assert torch.equal(clip.encode_image(pixels()), clip.encode_image(pixels()))
    tokens = clip.tokenize(TEXTS)
    assert torch.equal(clip.encode_text(tokens), clip.encode_text(tokens))


def test_preprocessing_is_the_models_own(copy):
    def change(**settings):
        file = copy / "preprocessor_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
        return load_clip(str(copy))

    clip = change(image_mean=[0.1, 0.2, 0.3], image_std=[1, 1, 1], size={"shortest_edge": 36})
    assert (clip.mean, clip.std, clip.resize_to, clip.image_size) == (
        (0.1, 0.2, 0.3),
        (1.0, 1.0, 1.0),
        36,
        32,
    )
    assert change(size=40, crop_size=32).resize_to == 40  # as files from 2021 have it
    with pytest.raises(MaxiError, match=r"crops to 30 pixels, but the model reads 32"):
        change(crop_size={"height": 30, "width": 30})
    (copy / "preprocessor_config.json").rename(copy / "other.json")
    assert load_clip(str(copy)).mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    nested = {"image_processor": {"image_mean": [0.5, 0.5, 0.5]}}  # as transformers 5 has it
    (copy / "processor_config.json").write_text(json.dumps(nested))
    assert load_clip(str(copy)).mean == (0.5, 0.5, 0.5)


def edit_weights(copy, change):
    file = copy / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def refuse(copy, pattern):
    with pytest.raises(MaxiError, match=pattern) as caught:
        load_clip(str(copy))
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_listed(copy):
    edit_weights(copy, lambda weights: weights.pop("visual_projection.weight"))
    refuse(copy, r"missing visual_projection\.weight\)")
    edit_weights(copy, lambda weights: weights.update({"extra.one": torch.zeros(2)}))
    refuse(copy, r"missing visual_projection\.weight; unexpected extra\.one")


def test_weights_of_another_shape_are_refused(copy):
    edit_weights(copy, lambda w: w.update({"visual_projection.weight": torch.zeros(16, 40)}))
    refuse(copy, r"cannot be read")


def test_position_numbers_in_old_files_are_no_weights(copy):
    extra = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    edit_weights(copy, lambda weights: weights.update(extra))
    load_clip(str(copy))


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "type 'bert'"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json is not a JSON object"),
        (lambda f: (f / "preprocessor_config.json").write_text("[]"), "cannot be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "clip"}'), "cannot be read|fit"),
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


def test_a_tokenizer_of_another_model_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 7
    (copy / "config.json").write_text(json.dumps(config))
    refuse(copy, r"ends a text with id \d+, but the model looks for 7")
    config["text_config"]["vocab_size"] = 500
    (copy / "config.json").write_text(json.dumps(config))
    edit_weights(
        copy,
        lambda w: w.update(
            {
                "text_model.embeddings.token_embedding.weight": w[
                    "text_model.embeddings.token_embedding.weight"
                ][:500].clone()
            }
        ),
    )
    refuse(copy, r"tokenizer has \d+ tokens, but the model has embeddings for 500")


# VideoCLIP


def frames(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 5, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_video_is_the_mean_of_its_raw_frame_embeddings(clip):
    model = VideoCLIP(clip)
    z_v = model.encode_video(frames())
    raw = torch.stack([clip.encode_image(video).mean(0) for video in frames()])
    torch.testing.assert_close(z_v, raw / raw.norm(dim=-1, keepdim=True), rtol=1e-5, atol=1e-5)
    unit = torch.nn.functional.normalize(clip.encode_image(frames().flatten(0, 1)), dim=-1)
    of_unit_frames = torch.nn.functional.normalize(unit.reshape(2, 5, -1).mean(1), dim=-1)
    assert not torch.allclose(z_v, of_unit_frames, atol=1e-4), "raw, not unit, frames are averaged"
    features = clip.image_trunk(frames().flatten(0, 1)).reshape(2, 5, -1)
    torch.testing.assert_close(model.embed_features(features), z_v)


@torch.no_grad()
def test_texts_have_unit_norm_and_sigma_is_the_temperature(clip):
    model = VideoCLIP(clip, sigma=0.05)
    z_t = model.encode_text(clip.tokenize(TEXTS))
    torch.testing.assert_close(z_t.norm(dim=-1), torch.ones(len(TEXTS)))
    assert model.logit_scale.exp().item() == pytest.approx(20)


def test_a_clip_of_others_has_the_temperature_of_the_recipe(folder):
    assert load_clip(str(folder)).model.logit_scale.item() == pytest.approx(2.6592)
    for spec in (f"clip:{folder}", str(folder)):
        assert load_model(spec).logit_scale.exp().item() == pytest.approx(50)


def test_other_readers_find_the_temperature_where_clip_has_it(folder, tmp_path):
    from transformers import CLIPModel

    model = VideoCLIP(load_clip(str(folder)), sigma=0.05)
    before = trunk_digest(model.backbone)
    model.save(tmp_path)
    assert CLIPModel.from_pretrained(tmp_path).logit_scale.exp().item() == pytest.approx(20)
    assert trunk_digest(load_clip(str(tmp_path))) == before, "features of the trunk stay valid"


def test_the_temperature_is_found_wherever_the_folder_is_named(folder, tmp_path):
    run = tmp_path / "run: 1"
    VideoCLIP(load_clip(str(folder)), sigma=0.05).save(run / "model")
    for spec in (run, run / "model", f"clip:{run}/model", f"own.code:load:{run}/model"):
        assert saved_beside(str(spec)).sigma == pytest.approx(0.05)
    for spec in ("clip", "clip:", "clip:some/model", "own.code:load", f"clip:{folder}", folder):
        assert saved_beside(str(spec)).sigma is None


def test_a_clip_may_replace_a_model_of_another_kind(folder, tmp_path):
    (tmp_path / "maxi.json").write_text('{"backbone": "objects", "mean": [0], "std": [1]}')
    VideoCLIP(load_clip(str(folder))).save(tmp_path)
    assert load_model(str(tmp_path)).backbone.kind == "clip"


def test_a_damaged_temperature_is_one_sentence(folder, tmp_path):
    VideoCLIP(load_clip(str(folder))).save(tmp_path)
    for sigma in ('"cold"', "0.0", "NaN"):
        (tmp_path / "maxi.json").write_text(f'{{"backbone": "clip", "sigma": {sigma}}}')
        with pytest.raises(
            MaxiError, match=r"maxi.json: (sigma is .*; train or copy|not valid JSON)"
        ):
            load_model(str(tmp_path))
    (tmp_path / "maxi.json").write_text("[]")
    with pytest.raises(MaxiError, match=r"maxi.json: sigma is \[\]"):
        load_model(f"clip:{tmp_path}")


@pytest.mark.parametrize("trainable", ["all", "head", "visual", "text"])
def test_freeze_trains_what_it_names(folder, trainable):
    model = VideoCLIP(load_backbone(str(folder)))
    names = model.freeze(trainable)
    assert names == [n for n, p in model.named_parameters() if p.requires_grad]
    z_v, z_t = model.encode_video(frames()), model.encode_text(model.backbone.tokenize(TEXTS))
    (z_v @ z_t.T).exp().sum().backward()
    learning = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    dead = set(names) - set(learning)
    # Keys have no gradient through their bias: softmax forgets a shift of all scores.
    assert all(name.endswith("k_proj.bias") for name in dead)
    assert set(learning) <= set(names)
    sides = {name.split(".")[2].split("_")[0] for name in names}
    assert sides == {"visual": {"vision", "visual"}, "text": {"text"}}.get(
        trainable, {"visual", "text"} if trainable == "head" else {"vision", "visual", "text"}
    )
    assert "logit_scale" not in names


def test_a_bin_file_is_read_as_tensors_only(copy, clip):
    """Older models of the hub have no safetensors; what they have is never unpickled."""
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    loaded = load_clip(str(copy))
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.state_dict().values(), clip.state_dict().values(), strict=True)
    )


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path(os.environ["HARM"]),)


def test_a_malicious_bin_file_is_refused_unexecuted(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    (copy / "model.safetensors").unlink()
    torch.save({"a": Harmful()}, copy / "pytorch_model.bin")
    refuse(copy, "cannot be read")
    assert not (tmp_path / "harm").exists()


@torch.no_grad()
def test_calling_the_model_gives_the_terms_of_eq_2(folder: Path) -> None:
    model = load_model(f"clip:{folder}", sigma=0.05)
    tokens = model.backbone.tokenize(["riding a horse", "playing guitar"])
    clips = frames()
    logits = model(clips, tokens)
    cosines = torch.einsum("id,nd->in", model.encode_video(clips), model.encode_text(tokens))
    assert logits.shape == (len(clips), 2)
    torch.testing.assert_close(logits, cosines / 0.05, rtol=1e-5, atol=1e-5)
