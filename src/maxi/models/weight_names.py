"""Translate the names of a CLIP's weights between OpenAI and open_clip, the X-CLIP family, and Hugging Face."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maxi.errors import MaxiError, some

State = dict[str, Tensor]

# The parts of one block: OpenAI's name, then Hugging Face's. OpenAI's three projections of attention are one matrix.
_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")

# Weights outside of the blocks: OpenAI's name, then Hugging Face's. A trailing .T marks a matrix that is transposed.
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
# Tensors that are not weights: constants of OpenAI's archives, a mask, and texts of the X-CLIP family, which it encodes
# anew for each list of classes.
_NO_WEIGHTS = re.compile(
    r"input_resolution|context_length|vocab_size|attn_mask|prompt_learner\..*|(.*\.)?position_ids"
)
# Prefixes of the X-CLIP family, and of open_clip's models with a separate text tower, and what replaces them.
_PREFIXES = [
    (re.compile(r"^(?:module\.)+"), ""),
    (re.compile(r"^image_encoder\."), "visual."),
    (re.compile(r"^text_encoder\."), ""),
    (re.compile(r"^text\."), ""),
]


def plain_names(state: Mapping[str, Tensor]) -> State:
    """Return the weights under OpenAI's names, without prefixes of wrappers and tensors that are not weights."""
    weights: State = {}
    for name, tensor in state.items():
        for prefix, replacement in _PREFIXES:
            name = prefix.sub(replacement, name)
        if not _NO_WEIGHTS.fullmatch(name):
            weights[name] = tensor
    return weights


def to_hugging_face(state: Mapping[str, Tensor], where: str) -> State:
    """Return weights with OpenAI's names under the names of CLIPModel, in float32.

    Raises MaxiError that lists the names which a CLIP with a ViT does not have.
    """
    weights: State = {}
    unknown = []
    for name, tensor in state.items():
        if name in _SINGLE:
            new = _SINGLE[name]
            weights[new.removesuffix(".T")] = tensor.T if new.endswith(".T") else tensor
        elif block := _BLOCK_NAME.fullmatch(name):
            tower = "vision_model" if block["visual"] else "text_model"
            prefix = f"{tower}.encoder.layers.{block['layer']}."
            if block["part"].startswith("attn.in_proj_"):
                kind = block["part"].removeprefix("attn.in_proj_")
                for projection, third in zip(_PROJECTIONS, tensor.chunk(3), strict=True):
                    weights[f"{prefix}self_attn.{projection}.{kind}"] = third
            else:
                part, _, kind = block["part"].rpartition(".")
                weights[f"{prefix}{_BLOCK[part]}.{kind}"] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise MaxiError(
            f"{where}: {len(unknown)} weights do not belong to a CLIP with a ViT"
            f" ({some(sorted(unknown))}); pass another file"
        )
    return {name: tensor.float().clone().contiguous() for name, tensor in weights.items()}


_BLOCK_NAME = re.compile(
    r"(?P<visual>visual\.)?transformer\.resblocks\.(?P<layer>\d+)\."
    rf"(?P<part>attn\.in_proj_(?:weight|bias)|(?:{'|'.join(map(re.escape, _BLOCK))})\.(?:weight|bias))"
)


def to_openai(state: Mapping[str, Tensor]) -> State:
    """Return the weights of a CLIPModel under OpenAI's and open_clip's names."""
    singles = {new.removesuffix(".T"): (old, new.endswith(".T")) for old, new in _SINGLE.items()}
    parts = {new: old for old, new in _BLOCK.items()}
    weights: State = {}
    for name, tensor in state.items():
        if name in singles:
            old, transposed = singles[name]
            weights[old] = tensor.T if transposed else tensor
            continue
        tower, _, rest = name.partition(".encoder.layers.")
        if not rest:
            continue
        layer, _, rest = rest.partition(".")
        prefix = f"{'visual.' if tower == 'vision_model' else ''}transformer.resblocks.{layer}."
        part, _, kind = rest.rpartition(".")
        if part == "self_attn.q_proj":
            thirds = [state[name.replace("q_proj", projection)] for projection in _PROJECTIONS]
            weights[f"{prefix}attn.in_proj_{kind}"] = torch.cat(thirds)
        elif part in parts:
            weights[f"{prefix}{parts[part]}.{kind}"] = tensor
    return {name: tensor.clone().contiguous() for name, tensor in weights.items()}


def shapes(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Return the settings of a CLIPConfig that follow from the shapes of weights under Hugging Face's names.

    Attention heads have the width 64, as in every CLIP. Raises MaxiError when a weight is missing or the image
    positions do not form a square.
    """
    try:
        patches = state["vision_model.embeddings.patch_embedding.weight"]
        n_positions = state["vision_model.embeddings.position_embedding.weight"].shape[0]
        words = state["text_model.embeddings.token_embedding.weight"]
        max_length = state["text_model.embeddings.position_embedding.weight"].shape[0]
        width = state["visual_projection.weight"].shape[0]
    except KeyError as error:
        raise MaxiError(
            f"{where}: missing {error}; pass a whole model, or --base with the CLIP it was trained from"
        ) from error
    n_rows, patch_size = math.isqrt(n_positions - 1), patches.shape[-1]
    if n_rows * n_rows != n_positions - 1:
        raise MaxiError(
            f"{where}: its {n_positions} image positions are not a square and a class token;"
            " pass another file"
        )
    return {
        "projection_dim": width,
        "vision_config": {
            **_tower_settings(state, "vision_model", patches.shape[0]),
            "patch_size": patch_size,
            "image_size": n_rows * patch_size,
            "projection_dim": width,
        },
        "text_config": {
            **_tower_settings(state, "text_model", words.shape[1]),
            "vocab_size": words.shape[0],
            "max_position_embeddings": max_length,
            "projection_dim": width,
        },
    }


def _tower_settings(state: Mapping[str, Tensor], tower: str, width: int) -> dict[str, Any]:
    """Return the settings of one tower, whose blocks are counted by their first MLP layers."""
    pattern = re.compile(rf"{tower}\.encoder\.layers\.(?P<layer>\d+)\.mlp\.fc1\.weight")
    matches = filter(None, map(pattern.fullmatch, state))
    mlp_widths = {int(match["layer"]): state[match[0]].shape[0] for match in matches}
    return {
        "hidden_size": width,
        "num_hidden_layers": len(mlp_widths),
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": mlp_widths.get(0, 4 * width),
    }
