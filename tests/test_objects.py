from __future__ import annotations

import copy
import csv
import importlib.util
import itertools
import json
import os
from pathlib import Path

import pytest
import torch

from maxi.errors import MaxiError
from maxi.models import objects
from maxi.models.load import load_backbone
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.video.transforms import eval_transform, normalise

PACKAGES = ("efficientnet_lite_pytorch", *(f.package for f in (objects.CLASSIFIER,)))
PACKAGES += (objects.SENTENCES.package, objects.CLASS_NAMES.package)
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="extra not installed"
)

SHARED = Path(os.environ.get("MAXI_SHARED", Path(__file__).parents[2] / "shared")) / "videos"


@pytest.fixture(scope="module")
def packaged():
    return objects.load_objects()


@pytest.fixture
def backbone(packaged):
    return copy.deepcopy(packaged)


def pixels(n: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, 224, 224, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def class_names() -> list[str]:
    return json.loads(objects._find(objects.CLASS_NAMES).read_text())


@torch.no_grad()
def test_the_text_side_is_minilm_minus_the_mean_class_name(packaged):
    """Against the layout of the model card: mean over a text's own tokens, unit norm."""
    texts = ["playing the guitar", "a much longer text about a person riding a camel", "golf"]
    expected = []
    for text in texts:
        ids = packaged.tokenizer(text, return_tensors="pt")["input_ids"]
        mean = packaged.text(input_ids=ids).last_hidden_state[0].mean(0)
        centred = mean / mean.norm() - packaged.mu
        expected.append(centred / centred.norm())
    ours = packaged.encode_text(packaged.tokenize(texts))
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_image_side_mixes_class_names_by_probability(packaged):
    names = class_names()
    assert len(names) == 1000
    embeddings = packaged.W + packaged.mu[:, None]
    torch.testing.assert_close(embeddings.norm(dim=0), torch.ones(1000))
    for k in (0, 402, 999):
        own = packaged.text_trunk(packaged.tokenize([names[k]]))[0]
        torch.testing.assert_close(embeddings[:, k], own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packaged.mu, embeddings.mean(1), rtol=1e-4, atol=1e-5)

    p = packaged.fc(packaged.image_trunk(pixels())).softmax(-1)
    mixture = torch.stack([(row[:, None] * embeddings.T).sum(0) for row in p]) - packaged.mu
    expected = mixture / mixture.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(packaged.encode_image(pixels()), expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_the_trunk_with_fc_is_the_packages_own_classifier(packaged):
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(objects._find(objects.CLASSIFIER), weights_only=True)
    network.load_state_dict(weights, strict=True)
    expected = network.eval()(pixels())
    ours = packaged.fc(packaged.image_trunk(pixels()))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_changes_no_text_and_long_texts_are_cut(packaged):
    together = packaged.encode_text(packaged.tokenize(["golf", "a person riding a camel"]))
    alone = packaged.encode_text(packaged.tokenize(["golf"]))
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert packaged.tokenize(["golf", "a b"])["input_ids"].shape == (2, 4)
    assert packaged.tokenize(["golf " * 500])["input_ids"].shape == (1, 256)


def test_batch_norm_statistics_are_frozen_in_training(backbone):
    model = VideoCLIP(backbone)
    before = {n: b.clone() for n, b in backbone.named_buffers()}
    quiet = model.eval().encode_video(pixels()[None])
    model.train()
    first, second = model.encode_video(pixels()[None]), model.encode_video(pixels()[None])
    assert torch.equal(first, second)
    assert torch.equal(first, quiet)
    assert all(torch.equal(before[n], b) for n, b in backbone.named_buffers())
    texts = backbone.tokenize(["golf", "riding a camel"])
    assert torch.equal(model.encode_text(texts), model.encode_text(texts)), "no dropout"


@pytest.mark.parametrize("trainable", ["all", "head", "visual", "text"])
def test_freeze_trains_what_it_names(backbone, trainable):
    model = VideoCLIP(backbone).train()
    names = model.freeze(trainable)
    z_v = model.encode_video(pixels()[:, None])
    z_t = model.encode_text(backbone.tokenize(["golf", "riding a camel"]))
    (z_v @ z_t.T).exp().sum().backward()
    assert names == [n for n, p in model.named_parameters() if p.requires_grad]
    learning = {n for n, p in model.named_parameters() if p.grad is not None}
    assert learning == set(names)
    head = {"backbone.fc.weight", "backbone.fc.bias", "backbone.W", "backbone.mu"}
    assert (set(names) == head) == (trainable == "head")
    assert ("backbone.W" in names) == (trainable != "text")
    assert ("backbone.mu" in names) == (trainable != "visual")
    assert any(n.startswith("backbone.text.") for n in names) == (trainable in ("all", "text"))
    assert any(n.startswith("backbone.image.") for n in names) == (trainable in ("all", "visual"))


def test_a_tuned_head_is_saved_alone_and_loaded_bit_for_bit(backbone, packaged, tmp_path):
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name in backbone.head_parameters():
                parameter.mul_(1.01)
    backbone.mean = (0.485, 0.456, 0.406)
    backbone.save(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 8e6
    for spec in (f"objects:{tmp_path}/model", str(tmp_path / "model"), str(tmp_path)):
        again = load_backbone(spec)
        assert again.fingerprint() == backbone.fingerprint() != packaged.fingerprint()
        assert again.mean == backbone.mean


def test_tuned_trunks_are_saved_too(backbone, tmp_path):
    with torch.no_grad():
        backbone.image._conv_stem.weight.add_(0.01)
        backbone.text.encoder.layer[3].output.dense.bias.add_(0.01)
    backbone.save(tmp_path)
    again = objects.load_objects(str(tmp_path))
    assert again.fingerprint() == backbone.fingerprint()
    with torch.no_grad():
        assert torch.equal(again.encode_image(pixels()), backbone.encode_image(pixels()))


def test_the_temperature_is_saved_with_the_model(backbone, tmp_path):
    VideoCLIP(backbone, sigma=0.03).save(tmp_path / "model")
    for spec in (f"objects:{tmp_path}/model", str(tmp_path)):
        again = load_model(spec)
        assert again.logit_scale.exp().item() == pytest.approx(1 / 0.03)
        assert again.backbone.mean == backbone.mean
    backbone.save(tmp_path / "model")  # as before sigma was kept: the recipe's
    assert load_model(str(tmp_path)).logit_scale.exp().item() == pytest.approx(10)


@pytest.mark.slow
def test_loading_twice_gives_the_same_model(packaged):
    assert objects.load_objects().fingerprint() == packaged.fingerprint()


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"123"), "cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "maxi.json").unlink(), "does not exist"),
        (lambda f: (f / "maxi.json").write_text("[]"), "lacks the `mean` and `std`"),
        (lambda f: (f / "maxi.json").write_text('{"backbone": "objects"}'), "lacks the `mean`"),
        (lambda f: (f / "maxi.json").write_text('{"mean": 1, "std": ["a"]}'), "lacks the `mean`"),
    ],
)
def test_a_damaged_folder_is_one_sentence(packaged, tmp_path, damage, pattern):
    packaged.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(MaxiError, match=pattern):
        objects.load_objects(str(tmp_path))


def test_weights_of_something_else_are_refused(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "maxi.json").write_text('{"backbone": "objects", "mean": [0], "std": [1]}')
    save_file({"fc.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(MaxiError, match=r"does not fit `objects`"):
        objects.load_objects(str(tmp_path))


def test_a_missing_package_names_the_extra(monkeypatch):
    gone = objects.CLASSIFIER._replace(package="no_such_package_at_all")
    monkeypatch.setattr(objects, "CLASSIFIER", gone)
    with pytest.raises(MaxiError, match=r'no-such-package-at-all; .*pip install "maxi\[objects\]"'):
        objects.load_objects()


def test_a_file_with_another_hash_is_not_loaded(monkeypatch):
    other = objects.SENTENCES._replace(sha256="0" * 64)
    monkeypatch.setattr(objects, "SENTENCES", other)
    with pytest.raises(MaxiError, match="is not the file that `objects` was made with"):
        objects.load_objects()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.skipif(not (SHARED / "manifest.csv").is_file(), reason="no clips beside the project")
def test_it_knows_object_bound_actions_on_real_clips(packaged):
    import av

    with (SHARED / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    wanted = ("riding a motorcycle", "riding a camel", "playing golf", "playing basketball")
    model = VideoCLIP(packaged)
    z_l = model.encode_text(packaged.tokenize([f"a video of a person {name}" for name in names]))
    ranks = []
    for name in wanted:
        row = next(row for row in rows if row["label"] == name)
        with av.open(str(SHARED / row["path"])) as container:
            frames = container.decode(video=0)
            middle = next(itertools.islice(frames, int(row["frames"]) // 2, None))
            image = torch.from_numpy(middle.to_ndarray(format="rgb24")).permute(2, 0, 1)[None]
        image = eval_transform(image, packaged.image_size, resize_to=packaged.resize_to)
        z_v = model.encode_video(normalise(image, packaged.mean, packaged.std)[None])
        ranks.append((z_v @ z_l.T)[0].argsort(descending=True).tolist().index(names.index(name)))
    assert sum(rank < 5 for rank in ranks) >= 3, f"among {len(names)} names: {ranks}"
