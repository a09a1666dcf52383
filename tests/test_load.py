from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from maxi.errors import MaxiError
from maxi.features.embedding import trunk_digest
from maxi.models.load import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, load_backbone, saved_spec
from maxi.models.saving import staging
from maxi.models.video_clip import load_model
from models import write_tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "model")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty hub cache and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_ways_to_name_a_clip(folder):
    by_name = load_backbone(f"clip:{folder}")
    assert by_name.kind == "clip"
    for spec in (str(folder), str(folder.parent)):  # a saved model, a run that has model/
        assert load_backbone(spec).fingerprint() == by_name.fingerprint()


@pytest.mark.parametrize(
    ("spec", "pattern"),
    [
        ("object", "did you mean objects"),
        ("runs/nothing", r"runs/nothing: no such folder; .* `clip:runs/nothing`"),
        ("no_such_module:function", "cannot be imported"),
        ("clip:./nothing/here", "no such folder, and not the id"),
    ],
)
def test_unknown_names(spec, pattern, hub):
    with pytest.raises(MaxiError, match=pattern):
        load_backbone(spec)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(MaxiError, match="neither a saved model"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("named", ["their_backbones:tiny", "", "..", None, ["clip"]])
def test_a_saved_model_cannot_name_code(named, tmp_path, monkeypatch):
    (tmp_path / "their_backbones.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "maxi.json").write_text(json.dumps({"backbone": named}))
    with pytest.raises(MaxiError, match=r"maxi\.json: .*MODULE:FUNCTION:"):
        load_backbone(str(tmp_path))
    (tmp_path / "maxi.json").write_text("[]")
    with pytest.raises(MaxiError, match=r"maxi\.json: "):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("spec", ["clip", "clip:openai/clip-vit-base-patch16"])
def test_without_network_and_cache_one_sentence_names_the_embedded_choice(spec, hub, capfd):
    with pytest.raises(MaxiError) as caught:
        load_backbone(spec)
    assert str(caught.value) == (
        "clip:openai/clip-vit-base-patch16 is neither a local folder nor in the cache, and the hub"
        " cannot be reached; pass a local folder, or use `--backbone objects`"
    )
    assert capfd.readouterr() == ("", "")


def test_a_cached_model_needs_no_network(hub, folder):
    cached = hub / "models--someone--tiny"
    commit = "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    shutil.copytree(folder, cached / "snapshots" / commit)
    expected = load_backbone(str(folder)).fingerprint()
    assert load_backbone("clip:someone/tiny").fingerprint() == expected
    assert load_backbone(f"clip:someone/tiny@{commit}").fingerprint() == expected
    with pytest.raises(MaxiError, match="the hub cannot be reached"):
        load_backbone(f"clip:someone/tiny@{'1' * 40}")


def test_wrong_code_is_not_told_of_the_hub(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository: None)
    with pytest.raises(TypeError, match="revision"):
        load_backbone("clip:someone/tiny")


def test_a_backbone_from_outside(tmp_path, monkeypatch, folder):
    (tmp_path / "their_backbones.py").write_text(
        "from maxi.models.clip import load_clip\n"
        f"def tiny(name, device):\n    return load_clip(name or {str(folder)!r}, device)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_backbone("their_backbones:tiny").kind == "clip"
    saved = tmp_path / "with: colon"
    load_backbone(str(folder)).save(saved)
    assert load_backbone(f"their_backbones:tiny:{saved}").kind == "clip"
    with pytest.raises(MaxiError, match="nothing"):
        load_backbone(f"their_backbones:tiny:{tmp_path}/nothing")
    sys.modules.pop("their_backbones")


def test_a_saved_model_is_loaded_by_the_function_that_the_run_names(tmp_path):
    assert (
        saved_spec("objects", tmp_path) == saved_spec("clip:openai/some", tmp_path) == str(tmp_path)
    )
    assert saved_spec("runs/a", tmp_path) == str(tmp_path)
    own = f"own.code:load:{tmp_path}"
    assert saved_spec("own.code:load", tmp_path) == saved_spec("own.code:load:old", tmp_path) == own


def test_normalisation(folder):
    own, imagenet = load_backbone(str(folder)), load_backbone(str(folder), normalisation="imagenet")
    assert own.mean == (0.48145466, 0.4578275, 0.40821073)
    assert (imagenet.mean, imagenet.std) == (IMAGENET_MEAN, IMAGENET_STD)
    imagenet.std = own.std
    assert own.fingerprint() != imagenet.fingerprint()
    imagenet.mean = own.mean
    assert own.fingerprint() == imagenet.fingerprint()


def test_a_device_that_is_not_there(folder):
    with pytest.raises(MaxiError, match="device 'nowhere' cannot be used"):
        load_backbone(str(folder), "nowhere")


def test_fingerprint_changes_with_one_bit_of_one_weight(folder):
    backbone = load_backbone(str(folder))
    before = backbone.fingerprint()
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert backbone.fingerprint() == before == load_backbone(str(folder)).fingerprint()
    weight = next(p for _, p in backbone.named_parameters())
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))
    assert backbone.fingerprint() != before


def test_a_failed_save_leaves_the_old_files(tmp_path):
    (tmp_path / "a").write_text("old")

    def save():
        with staging(tmp_path) as part:
            (part / "a").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        save()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_the_table():
    assert list(BACKBONES) == ["clip", "miniature", "objects", "siglip"]


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "changes", "pattern"),
    [
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "std above 0"),
        ("preprocessor_config.json", {"image_std": [1, 1]}, "three finite numbers"),
        ("preprocessor_config.json", {"image_mean": [float("nan")] * 3}, "NaN is not a number"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 10**9}}, "from 1 to 4096"),
        ("config.json", {"text_config": {"num_hidden_layers": 10**6}}, "1000000"),
        ("maxi.json", {"backbone": "clip", "sigma": 1e-300}, "sigma is 1e-300"),
        ("maxi.json", {"backbone": "clip", "temporal_blocks": 10**9}, "temporal_blocks"),
    ],
)
def test_settings_that_no_model_has_are_one_sentence(file, changes, pattern, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / file).touch()
    (copy / file).write_text((copy / file).read_text() or "{}")
    _edit(copy / file, **changes)
    with pytest.raises(MaxiError, match=pattern):
        load_model(f"clip:{copy}")


def test_weights_that_are_not_finite_are_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "model")
    weights = load_file(copy / "model.safetensors")
    weights["visual_projection.weight"][0, 0] = float("nan")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(MaxiError, match=r"visual_projection.weight is not finite"):
        load_backbone(f"clip:{copy}")
    weights["visual_projection.weight"] = torch.ones_like(weights["visual_projection.weight"]).int()
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(MaxiError, match="whole numbers"):
        load_backbone(f"clip:{copy}")


def test_what_changes_embeddings_changes_fingerprint_and_trunk(folder, tmp_path):
    original = load_backbone(f"clip:{folder}")
    settings = json.loads((folder / "config.json").read_text())
    for name, value in (
        ("hidden_act", "gelu"),
        ("num_attention_heads", 2),
        ("layer_norm_eps", 0.5),
    ):
        copy = shutil.copytree(folder, tmp_path / name)
        vision = settings["vision_config"] | {name: value}
        _edit(copy / "config.json", vision_config=vision)
        other = load_backbone(f"clip:{copy}")
        assert other.fingerprint() != original.fingerprint()
        assert trunk_digest(other) != trunk_digest(original)
    other = load_backbone(f"clip:{folder}")
    other.image_blocks.temporal = 1
    assert trunk_digest(other) != trunk_digest(original)
    copy = shutil.copytree(folder, tmp_path / "tokens")
    tokens = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = tokens["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (copy / "tokenizer.json").write_text(json.dumps(tokens))
    assert load_backbone(f"clip:{copy}").fingerprint() != original.fingerprint()
    original.save(tmp_path / "again")
    assert load_backbone(str(tmp_path / "again")).fingerprint() == original.fingerprint()


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".saving-killed").mkdir()
    (tmp_path / ".saving-killed" / "model.safetensors").touch()
    with staging(tmp_path) as part:
        (part / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_model_whose_weights_are_not_finite_is_not_saved(folder, tmp_path):
    model = load_model(f"clip:{folder}")
    with torch.no_grad():
        next(model.backbone.parameters())[0] = float("nan")
    with pytest.raises(MaxiError, match="is not finite"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
