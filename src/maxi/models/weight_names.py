"""Names of a CLIP's weights: those of OpenAI and open_clip, of the X-CLIP family, and of Hugging Face."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maxi.errors import MaxiError, some

State = dict[str, Tensor]

# Of one block, here and there; the three projections of attention are one matrix in the first.
_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_THREE = ("q_proj", "k_proj", "v_proj")

# Whole names; a trailing .T marks a matrix that is transposed on the way.
_SINGLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight.T",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight.T",
    "logit_scale": "logit_scale",
}
# Not weights: constants of OpenAI's archives, a mask, and texts encoded anew by the X-CLIP family for each class list.
_NO_WEIGHTS = re.compile(
    r"input_resolution|context_length|vocab_size|attn_mask|prompt_learner\..*|(.*\.)?position_ids"
)
_ELSEWHERE = [  # X-CLIP family, and open_clip's models with a text tower of their own
    (re.compile(r"^(?:module\.)+"), ""),
    (re.compile(r"^image_encoder\."), "visual."),
    (re.compile(r"^text_encoder\."), ""),
    (re.compile(r"^text\."), ""),
]


def plain_names(state: Mapping[str, Tensor]) -> State:
    """The same weights under OpenAI's names, without wrappers' prefixes and without what is no weight."""
    found: State = {}
    for name, tensor in state.items():
        for pattern, put in _ELSEWHERE:
            name = pattern.sub(put, name)
        if not _NO_WEIGHTS.fullmatch(name):
            found[name] = tensor
    return found


def to_hugging_face(state: Mapping[str, Tensor], where: str) -> State:
    """Weights under OpenAI's names -> under those of CLIPModel. MaxiError lists names that are none of a ViT CLIP."""
    found: State = {}
    unknown = []
    for name, tensor in state.items():
        if name in _SINGLE:
            new = _SINGLE[name]
            found[new.removesuffix(".T")] = tensor.T if new.endswith(".T") else tensor
        elif block := _BLOCK_NAME.fullmatch(name):
            tower = "vision_model" if block["visual"] else "text_model"
            prefix = f"{tower}.encoder.layers.{block['layer']}."
            if block["part"].startswith("attn.in_proj_"):
                kind = block["part"].removeprefix("attn.in_proj_")
                for part, third in zip(_THREE, tensor.chunk(3), strict=True):
                    found[f"{prefix}self_attn.{part}.{kind}"] = third
            else:
                part, _, kind = block["part"].rpartition(".")
                found[f"{prefix}{_BLOCK[part]}.{kind}"] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise MaxiError(
            f"{where}: {len(unknown)} weights are none of a CLIP with a ViT ({some(sorted(unknown))});"
            " pass another file"
        )
    return {name: tensor.float().clone().contiguous() for name, tensor in found.items()}


_BLOCK_NAME = re.compile(
    r"(?P<visual>visual\.)?transformer\.resblocks\.(?P<layer>\d+)\."
    rf"(?P<part>attn\.in_proj_(?:weight|bias)|(?:{'|'.join(map(re.escape, _BLOCK))})\.(?:weight|bias))"
)


def to_openai(state: Mapping[str, Tensor]) -> State:
    """Weights of a CLIPModel -> under OpenAI's and open_clip's names."""
    single = {new.removesuffix(".T"): (old, new.endswith(".T")) for old, new in _SINGLE.items()}
    parts = {new: old for old, new in _BLOCK.items()}
    found: State = {}
    for name, tensor in state.items():
        if name in single:
            old, turned = single[name]
            found[old] = tensor.T if turned else tensor
            continue
        tower, _, rest = name.partition(".encoder.layers.")
        if not rest:
            continue
        layer, _, rest = rest.partition(".")
        prefix = f"{'visual.' if tower == 'vision_model' else ''}transformer.resblocks.{layer}."
        part, _, kind = rest.rpartition(".")
        if part == "self_attn.q_proj":
            whole = [state[name.replace("q_proj", other)] for other in _THREE]
            found[f"{prefix}attn.in_proj_{kind}"] = torch.cat(whole)
        elif part in parts:
            found[f"{prefix}{parts[part]}.{kind}"] = tensor
    return {name: tensor.clone().contiguous() for name, tensor in found.items()}


def shapes(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """The settings of a CLIPConfig that weights under Hugging Face's names tell, heads of 64 as in every CLIP."""
    try:
        patches = state["vision_model.embeddings.patch_embedding.weight"]
        places = state["vision_model.embeddings.position_embedding.weight"]
        words = state["text_model.embeddings.token_embedding.weight"]
        context = state["text_model.embeddings.position_embedding.weight"].shape[0]
        width = state["visual_projection.weight"].shape[0]
    except KeyError as error:
        raise MaxiError(
            f"{where}: missing {error}; pass a whole model, or --base with the CLIP it was trained from"
        ) from error
    side, patch = math.isqrt(places.shape[0] - 1), patches.shape[-1]
    if side * side != places.shape[0] - 1:
        raise MaxiError(
            f"{where}: its {places.shape[0]} image positions are no square and a class token"
        )
    return {
        "projection_dim": width,
        "vision_config": {
            **_tower(state, "vision_model", patches.shape[0]),
            "patch_size": patch,
            "image_size": side * patch,
            "projection_dim": width,
        },
        "text_config": {
            **_tower(state, "text_model", words.shape[1]),
            "vocab_size": words.shape[0],
            "max_position_embeddings": context,
            "projection_dim": width,
        },
    }


def _tower(state: Mapping[str, Tensor], tower: str, width: int) -> dict[str, Any]:
    pattern = re.compile(rf"{tower}\.encoder\.layers\.(\d+)\.mlp\.fc1\.weight")
    layers = {int(m[1]): state[m[0]].shape[0] for m in map(pattern.fullmatch, state) if m}
    return {
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": layers.get(0, 4 * width),
    }
