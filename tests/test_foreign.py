"""CLIPs in other layouts: the same logits as an independent forward pass, and nothing in a file is executed."""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maxi.cli import main
from maxi.errors import MaxiError
from maxi.models.clip import load_clip
from maxi.models.clip_tokenizer import clip_tokenizer, tidy
from maxi.models.export import convert
from maxi.models.load import load_backbone
from maxi.models.weight_names import to_openai
from models import write_tiny_clip

TEXTS = ["a photo of a person waving.", "riding a horse", ""]


def openai_state(*, width: int = 128, vocab: int = 49408, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under OpenAI's names: 32 pixels, patches of 8, two blocks in each tower."""
    random = torch.Generator().manual_seed(seed)

    def new(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random) * 0.1

    state = {
        "visual.class_embedding": new(width),
        "visual.positional_embedding": new(17, width),
        "visual.conv1.weight": new(width, 3, 8, 8),
        "visual.proj": new(width, 32),
        "positional_embedding": new(77, 64),
        "token_embedding.weight": new(vocab, 64),
        "text_projection": new(64, 32),
        "logit_scale": torch.tensor(4.6),
    }
    for name, w in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", 64)):
        state |= {f"{name}.weight": 1 + new(w), f"{name}.bias": new(w)}
    for tower, w in (("visual.", width), ("", 64)):
        for layer in range(2):
            block = f"{tower}transformer.resblocks.{layer}."
            state |= {
                block + "attn.in_proj_weight": new(3 * w, w),
                block + "attn.in_proj_bias": new(3 * w),
                block + "attn.out_proj.weight": new(w, w),
                block + "attn.out_proj.bias": new(w),
                block + "mlp.c_fc.weight": new(4 * w, w),
                block + "mlp.c_fc.bias": new(4 * w),
                block + "mlp.c_proj.weight": new(w, 4 * w),
                block + "mlp.c_proj.bias": new(w),
            }
            for norm in ("ln_1", "ln_2"):
                state |= {f"{block}{norm}.weight": 1 + new(w), f"{block}{norm}.bias": new(w)}
    return state


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def blocks(state: dict[str, Tensor], tower: str, x: Tensor, *, causal: bool, quick: bool) -> Tensor:
    """CLIP's transformer written out: x (B, L, W)."""
    for layer in range(2):
        p = f"{tower}transformer.resblocks.{layer}."
        y = norm(state, p + "ln_1", x)
        q, k, v = (
            part.unflatten(-1, (-1, 64)).transpose(1, 2)
            for part in F.linear(
                y, state[p + "attn.in_proj_weight"], state[p + "attn.in_proj_bias"]
            ).chunk(3, -1)
        )
        scores = q @ k.transpose(-1, -2) / 8
        if causal:
            scores += torch.full(scores.shape[-2:], -torch.inf).triu(1)
        y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
        x = x + F.linear(y, state[p + "attn.out_proj.weight"], state[p + "attn.out_proj.bias"])
        y = F.linear(
            norm(state, p + "ln_2", x), state[p + "mlp.c_fc.weight"], state[p + "mlp.c_fc.bias"]
        )
        y = y * torch.sigmoid(1.702 * y) if quick else F.gelu(y)
        x = x + F.linear(y, state[p + "mlp.c_proj.weight"], state[p + "mlp.c_proj.bias"])
    return x


def reference(
    state: dict[str, Tensor], pixels: Tensor, ids: Tensor, *, quick: bool = True
) -> Tensor:
    """Cosines of images and texts as OpenAI's CLIP computes them."""
    x = F.conv2d(pixels, state["visual.conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], 1)
    x = norm(state, "visual.ln_pre", x + state["visual.positional_embedding"])
    x = norm(state, "visual.ln_post", blocks(state, "visual.", x, causal=False, quick=quick)[:, 0])
    t = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    t = norm(state, "ln_final", blocks(state, "", t, causal=True, quick=quick))
    t = t[torch.arange(len(t)), ids.argmax(-1)] @ state["text_projection"]
    return F.normalize(x @ state["visual.proj"], dim=-1) @ F.normalize(t, dim=-1).T


@torch.inference_mode()
def cosines(clip: Any, pixels: Tensor) -> Tensor:
    z_t = clip.encode_text(clip.tokenize(TEXTS))
    return F.normalize(clip.encode_image(pixels), dim=-1) @ F.normalize(z_t, dim=-1).T


PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return openai_state()


def expected(state: dict[str, Tensor], *, quick: bool = True) -> Tensor:
    tokens = clip_tokenizer()([tidy(t) for t in TEXTS], padding=True, return_tensors="pt")
    return reference(state, PIXELS, tokens.input_ids, quick=quick)


def as_module(state: dict[str, Tensor]) -> nn.Module:
    """A module whose parameters have these names, to be saved as an archive."""

    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    root = Root()
    for name, tensor in state.items():
        *path, last = name.split(".")
        here: nn.Module = root
        for part in path:
            if part not in here._modules:
                here.add_module(part, nn.Module())
            here = here._modules[part]  # type: ignore[assignment]
        here.register_parameter(last, nn.Parameter(tensor.clone(), requires_grad=False))
    return root


def test_openais_archive(state: dict[str, Tensor], tmp_path: Path) -> None:
    root = as_module({k: v.half() if v.ndim else v for k, v in state.items()})
    for name in ("input_resolution", "context_length", "vocab_size"):
        root.register_buffer(name, torch.tensor(77))
    torch.jit.trace(root, torch.zeros(1)).save(str(tmp_path / "tiny.pt"))
    halves = {k: v.half().float() if v.ndim else v for k, v in state.items()}
    clip = load_clip(str(tmp_path / "tiny.pt"))
    assert torch.allclose(cosines(clip, PIXELS), expected(halves), atol=1e-5)
    told = CliRunner().invoke(main, ["convert", str(tmp_path / "tiny.pt"), str(tmp_path / "hf")])
    assert told.exit_code == 0, told.stderr
    again = load_backbone(str(tmp_path / "hf"))
    assert again.fingerprint() == clip.fingerprint()
    assert torch.equal(cosines(again, PIXELS), cosines(clip, PIXELS))


@pytest.mark.parametrize("quick", [True, False])
def test_open_clip_there_and_back(state: dict[str, Tensor], tmp_path: Path, quick: bool) -> None:
    options = {
        "model_cfg": {
            "embed_dim": 32,
            "quick_gelu": quick,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
            "text_cfg": {
                "context_length": 77,
                "vocab_size": 49408,
                "width": 64,
                "heads": 1,
                "layers": 2,
            },
        },
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(options))
    save_file(state, tmp_path / "open_clip_model.safetensors")
    clip = load_clip(str(tmp_path))
    assert clip.mean == (0.1, 0.2, 0.3)
    assert torch.allclose(cosines(clip, PIXELS), expected(state, quick=quick), atol=1e-5)
    convert(f"clip:{tmp_path}", tmp_path / "out", "open_clip")
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[k], state[k]) for k in state)
    found = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    for tower in ("vision_cfg", "text_cfg"):
        given = options["model_cfg"][tower]  # type: ignore[index]
        assert given.items() <= found["model_cfg"][tower].items()
    assert found["model_cfg"]["quick_gelu"] is quick
    assert torch.equal(cosines(load_clip(str(tmp_path / "out")), PIXELS), cosines(clip, PIXELS))


def test_checkpoints_of_the_x_clip_family(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yacs = types.ModuleType("yacs.config")

    class CfgNode(dict):  # type: ignore[type-arg]
        __module__ = "yacs.config"
        __qualname__ = "CfgNode"

        def __getstate__(self) -> Any:
            return {"__frozen__": True}

    yacs.CfgNode = CfgNode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", yacs)
    renamed = {}
    for name, tensor in state.items():
        if name == "token_embedding.weight":
            continue
        side = (
            "image_encoder." + name.removeprefix("visual.")
            if name.startswith("visual.")
            else "text_encoder." + name
        )
        renamed["module." + ("logit_scale" if name == "logit_scale" else side)] = tensor
    renamed["module.prompt_learner.complete_text_embeddings"] = torch.zeros(3, 77, 64)
    file = tmp_path / "ckpt_epoch_9.pth"
    config = CfgNode({"MODEL": CfgNode({"ARCH": "ViT-B/16"})})
    torch.save({"model": renamed, "optimizer": {"state": {}}, "epoch": 9, "config": config}, file)
    monkeypatch.delitem(sys.modules, "yacs.config")
    with pytest.raises(MaxiError, match=r"missing 'text_model.embeddings.token_embedding.weight'"):
        load_clip(str(file))
    save_file(
        openai_state(seed=5) | {"token_embedding.weight": state["token_embedding.weight"]},
        tmp_path / "base.safetensors",
    )
    base = f"clip:{tmp_path / 'base.safetensors'}"
    assert "layout" in convert(str(file), tmp_path / "hf", base=base)
    assert torch.allclose(
        cosines(load_backbone(str(tmp_path / "hf")), PIXELS), expected(state), atol=1e-5
    )


def test_hugging_face_there_and_back(tmp_path: Path) -> None:
    clip = load_clip(str(write_tiny_clip(tmp_path / "hf")))
    convert(f"clip:{tmp_path / 'hf'}", tmp_path / "open_clip", "open_clip")
    again = load_clip(str(tmp_path / "open_clip"))
    assert torch.allclose(cosines(again, PIXELS), cosines(clip, PIXELS), atol=1e-5)
    assert to_openai(clip.model.state_dict()).keys() == to_openai(again.model.state_dict()).keys()


@pytest.mark.slow
def test_onnx_gives_the_same_embeddings(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = write_tiny_clip(tmp_path / "hf")
    told = CliRunner().invoke(
        main, ["convert", str(folder), str(tmp_path / "onnx"), "--to", "onnx"]
    )
    assert told.exit_code == 0, told.stderr
    assert "from the model's embeddings at most" in told.stdout
    clip = load_clip(str(folder))
    ids = clip.tokenize(["riding a horse", "a photo"])["input_ids"]
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "text.onnx")
    found = torch.from_numpy(session.run(None, {"input_ids": ids.numpy()})[0])
    assert torch.allclose(
        found, F.normalize(clip.encode_text({"input_ids": ids}), dim=-1), atol=1e-5
    )


MARK = Path(tempfile.gettempdir()) / f"maxi-was-here-{os.getpid()}"


class Attack:
    def __reduce__(self) -> Any:
        return os.system, (f"touch {MARK}",)


def test_what_is_no_clip_is_refused_in_a_sentence(state: dict[str, Tensor], tmp_path: Path) -> None:
    def refused(name: str, match: str) -> None:
        with pytest.raises(MaxiError, match=match):
            load_clip(str(tmp_path / name))

    torch.save({"model": {"a": torch.zeros(1)}, "config": Attack()}, tmp_path / "attack.pth")
    refused("attack.pth", "which is never executed")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Attack()))
    refused("old.pt", "never executed|cannot be read")
    assert not MARK.exists()
    save_file(state, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(
        (tmp_path / "whole.safetensors").read_bytes()[:100_000]
    )
    refused("cut.safetensors", "cannot be read")
    (tmp_path / "noise.pt").write_bytes(b"\0" * 1000)
    refused("noise.pt", "no file of weights")
    save_file({**state, "mit.resblocks.0.x": torch.zeros(1)}, tmp_path / "more.safetensors")
    refused(
        "more.safetensors", r"1 weights do not belong to a CLIP with a ViT \(mit.resblocks.0.x\)"
    )
    less = {k: v for k, v in state.items() if k != "ln_final.bias"}
    save_file(less, tmp_path / "less.safetensors")
    refused("less.safetensors", "missing text_model.final_layer_norm.bias")
    wrong = {**state, "ln_final.bias": torch.zeros(3)}
    save_file(wrong, tmp_path / "wrong.safetensors")
    refused("wrong.safetensors", "of another shape text_model.final_layer_norm.bias")
    save_file({"x": torch.zeros(1)}, tmp_path / "none.safetensors")
    refused("none.safetensors", "1 weights do not belong to a CLIP")


def test_ids_are_those_of_open_clip() -> None:
    rows = json.loads((Path(__file__).parent / "data" / "clip_ids.json").read_text())
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    for text, ids in rows:
        found = tokenizer(tidy(text), truncation=True, max_length=77, split_special_tokens=True)
        n = len(found["input_ids"])
        assert found["input_ids"] == ids[:n], text
        assert not any(ids[n:])


def test_a_damaged_open_clip_folder_is_one_sentence(tmp_path: Path) -> None:
    save_file({"visual.conv1.weight": torch.zeros(2)}, tmp_path / "open_clip_model.safetensors")
    for text in ("[]", '{"model_cfg": {"vision_cfg": {"width": "x"}}}', '{"model_cfg": 3}', "{"):
        (tmp_path / "open_clip_config.json").write_text(text)
        with pytest.raises(MaxiError):
            load_clip(str(tmp_path))
    (tmp_path / "alone").mkdir()
    torch.save([torch.zeros(1)], tmp_path / "alone" / "list.pt")
    with pytest.raises(MaxiError, match="holds no weights by name"):
        load_clip(str(tmp_path / "alone" / "list.pt"))


@pytest.mark.parametrize("stated_by", ["base", "open_clip beside", "hugging face beside"])
def test_weights_alone_take_what_is_stated_of_them(stated_by: str, tmp_path: Path) -> None:
    """The tiny CLIP has heads of 8 and 12 numbers and `gelu`, and OpenAI's have 64 and `quick_gelu`."""
    folder = write_tiny_clip(tmp_path / "hf")
    settings = json.loads((folder / "config.json").read_text())
    for tower in ("vision_config", "text_config"):
        settings[tower] |= {"hidden_act": "gelu", "layer_norm_eps": 1e-3}
    (folder / "config.json").write_text(json.dumps(settings))
    clip = load_clip(str(folder))
    weights = tmp_path / "somewhere" / "Weights.CKPT"
    weights.parent.mkdir()
    torch.save({"state_dict": to_openai(clip.model.state_dict())}, weights)
    base = f"clip:{folder}" if stated_by == "base" else None
    tokenizer = [p for p in folder.iterdir() if "token" in p.name]
    if stated_by == "hugging face beside":
        for path in (folder / "config.json", *tokenizer):
            (weights.parent / path.name).write_bytes(path.read_bytes())
    if stated_by == "open_clip beside":
        convert(f"clip:{folder}", tmp_path / "open_clip", "open_clip")
        for path in (tmp_path / "open_clip" / "open_clip_config.json", *tokenizer):
            (weights.parent / path.name).write_bytes(path.read_bytes())
        options = json.loads((weights.parent / "open_clip_config.json").read_text())
        for tower in ("vision_cfg", "text_cfg"):
            options["model_cfg"][tower]["norm_kwargs"] = {"eps": 1e-3}
        (weights.parent / "open_clip_config.json").write_text(json.dumps(options))
    convert(str(weights), tmp_path / "out", base=base)
    again = load_clip(str(tmp_path / "out"))
    assert torch.allclose(cosines(again, PIXELS), cosines(clip, PIXELS), atol=1e-5)
    assert again.fingerprint() == clip.fingerprint()


def test_what_is_assumed_of_weights_alone_is_told(
    state: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(state, tmp_path / "weights")
    load_clip(str(tmp_path / "weights"))
    assert "quick_gelu" in caplog.text
    assert "--base" in caplog.text


def test_settings_of_open_clip_that_no_clip_here_has_are_refused(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(state, tmp_path / "open_clip_model.safetensors")
    options = {"model_cfg": {"vision_cfg": {"pool_type": "avg", "layers": 2}, "text_cfg": {}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(options))
    with pytest.raises(MaxiError, match="states pool_type, which no CLIP here can have"):
        load_clip(str(tmp_path))


def test_an_archive_that_would_inflate_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 2**28)
    with pytest.raises(MaxiError, match=r"would grow to 0\.3 GB"):
        load_clip(str(tmp_path / "bomb.pt"))
    torch.save({"visual.proj": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "wide.pt")
    with pytest.raises(MaxiError, match="larger than what is stored"):
        load_clip(str(tmp_path / "wide.pt"))
    save_file({"visual.proj": torch.zeros(4, 4, dtype=torch.int32)}, tmp_path / "whole")
    with pytest.raises(MaxiError, match="whole numbers"):
        load_clip(str(tmp_path / "whole"))


def test_convert_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt", ""):
        with pytest.raises(MaxiError, match=r"choose|new one"):
            convert("miniature", out)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
