"""A tiny random CLIP and BLIP in Hugging Face layout, tokenizer included, built without any download."""

from __future__ import annotations

from pathlib import Path

import torch

from maxi.files import write_json
from maxi.miniature.tokens import word_tokenizer
from maxi.models.hugging_face import quiet_transformers

WORDS = ["photo", "of", "the", "video", "person", "playing", "guitar", "riding", "horse"]


def tiny_tokenizer():
    """CLIP's own kind of tokenizer: all bytes, the words above, the two special tokens last."""
    return word_tokenizer(WORDS)


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Weights larger than initial ones are, so that a wrong mask or activation shows."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name == "logit_scale":
            continue
        parameter.normal_(0, 0.2, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            parameter += 1


def write_tiny_clip(
    folder: Path,
    *,
    seed: int = 0,
    image_size: int = 32,
    context: int = 16,
    legacy_eos: bool = False,
) -> Path:
    """Write a CLIP of about 100,000 random weights: D = 16, patches of 8 pixels."""
    from transformers import CLIPConfig, CLIPModel

    tokenizer = tiny_tokenizer()
    tower = {"num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 16}
    config = CLIPConfig(
        text_config={
            **tower,
            "hidden_size": 32,
            "intermediate_size": 64,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": context,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": 2 if legacy_eos else tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            **tower,
            "hidden_size": 48,
            "intermediate_size": 96,
            "image_size": image_size,
            "patch_size": 8,
        },
        projection_dim=16,
    )
    model = CLIPModel(config)
    randomise(model, seed)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_json(
        Path(folder) / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": image_size},
            "crop_size": {"height": image_size, "width": image_size},
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )
    return Path(folder)


def tiny_bert_tokenizer():
    """The kind of tokenizer that published BLIPs have."""
    from transformers import BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", *WORDS]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


def write_tiny_blip(
    folder: Path, *, seed: int = 0, image_size: int = 32, published: bool = False
) -> Path:
    """Write a BLIP of about 70,000 random weights; with `published`, with the special tokens of the published ones.

    Those end a caption with [SEP] and begin it with a token that the model has, but the tokenizer has not.
    """
    from transformers import BlipConfig, BlipForConditionalGeneration

    tokenizer = tiny_bert_tokenizer() if published else tiny_tokenizer()
    n_tokens = len(tokenizer)
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = BlipConfig(
        text_config={
            **tower,
            "vocab_size": n_tokens + 2 if published else n_tokens,
            "max_position_embeddings": 24,
            "bos_token_id": n_tokens if published else tokenizer.bos_token_id,
            "eos_token_id": 2 if published else tokenizer.eos_token_id,
            "sep_token_id": tokenizer.sep_token_id if published else tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "image_size": image_size, "patch_size": 8},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    model = BlipForConditionalGeneration(config)
    randomise(model, seed)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_json(
        Path(folder) / "preprocessor_config.json",
        {
            "image_processor_type": "BlipImageProcessor",
            "size": {"height": image_size, "width": image_size},
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )
    return Path(folder)


def write_tiny_siglip(
    folder: Path, *, seed: int = 0, generation: int = 1, image_size: int = 32
) -> Path:
    """Write a SigLIP of about 70,000 random weights, D = 32, patches of 8 pixels, texts of 16 tokens.

    The first generation has a sentencepiece tokenizer, the second one that transformers writes as tokenizer.json.
    """
    from transformers import SiglipConfig, SiglipModel

    tokenizer = tiny_sentencepiece(folder) if generation == 1 else tiny_gemma_tokenizer()
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = SiglipConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "image_size": image_size, "patch_size": 8},
    )
    model = SiglipModel(config)
    randomise(model, seed)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    size = {"height": image_size, "width": image_size}
    write_json(
        Path(folder) / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "size": size,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        },
    )
    return Path(folder)


def tiny_sentencepiece(folder: Path):
    """The kind of tokenizer that SigLIP's first generation has, trained on a few sentences."""
    import sentencepiece
    from transformers import SiglipTokenizer

    Path(folder).mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS), *WORDS, "abcdefghijklmnopqrstuvwxyz"] * 3),
        model_prefix=str(Path(folder) / "spiece"),
        vocab_size=70,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (Path(folder) / "spiece.vocab").unlink()
    return SiglipTokenizer(str(Path(folder) / "spiece.model"))


def tiny_gemma_tokenizer():
    """The kind of tokenizer that SigLIP's second generation has: byte fallback, an end, no start."""
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokens = dict.fromkeys([*special, *bytes_, *letters])
    return GemmaTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        add_bos_token=False,
        add_eos_token=True,
    )
