"""`hf:MODEL`: a tiny random language model in Hugging Face layout writes replies, the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maxi.errors import MaxiError
from maxi.method.expansion import expand
from maxi.models import chat_template
from maxi.models.causal_lm import Language, load_language
from maxi.models.chat_template import framed
from maxi.models.hugging_face import quiet_transformers
from models import tiny_tokenizer, write_tiny_clip

TEMPLATE = "{% for m in messages %}user {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}reply {% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    where = tmp_path_factory.mktemp("llama")
    with quiet_transformers():
        LlamaForCausalLM(config).save_pretrained(where)
        tokenizer.save_pretrained(where)
    return where


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAXI_CACHE", str(tmp_path / "cache"))


def test_replies_follow_from_the_question(folder: Path) -> None:
    language = load_language(str(folder))
    first = language.write("waving", temperature=0.4, max_tokens=12)
    torch.manual_seed(123)
    assert language.write("waving", temperature=0.4, max_tokens=12) == first
    assert language.write("bowing", temperature=0.4, max_tokens=12) != first
    with pytest.raises(MaxiError, match="context of 512 tokens is too short"):
        language.write("waving " * 600, temperature=0.4, max_tokens=12)


def test_the_template_frames_the_question() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ bos_token }}" + TEMPLATE
    messages = [{"role": "user", "content": "how does {{ one }} wave?"}]
    whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert framed(tokenizer, "how does {{ one }} wave?", "hf:x") == whole


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "ran for",
        ),
        ("{{ raise_exception('no') }}", "fails"),
        ("{{ messages[0]['content'] * 2 }}", "does not hold the message once"),
        ("{{ 'x' * 99999999999 }}", "fails"),
        ("{{ messages.__class__ }}", "does not hold the message once|fails"),
        ("{% if %}", "fails"),
    ],
)
def test_a_template_that_does_harm_is_one_sentence(
    template: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A good one may be late on a busy machine, but none is here.
    monkeypatch.setattr(chat_template, "SECONDS", 5 if fault == "ran for" else 600)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(MaxiError, match=f"hf:x: its chat template ({fault})"):
        framed(tokenizer, "hello", "hf:x")


def test_an_expander_asks_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = expand(["waving", "bowing"], f"hf:{folder}")
    assert [row.name for row in rows] == ["waving", "bowing"]
    monkeypatch.setattr(Language, "write", lambda *a, **k: pytest.fail("asked again"))
    monkeypatch.setattr("maxi.models.causal_lm._try_out", lambda language: None)
    assert expand(["waving", "bowing"], f"hf:{folder}") == rows


def test_what_writes_no_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MaxiError, match="'clip', which writes no texts"):
        load_language(str(write_tiny_clip(tmp_path)))
    with pytest.raises(MaxiError, match="write hf:FOLDER"):
        load_language("")
