"""Ask a language model that runs on this machine (`hf:MODEL`), from a local folder or the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maxi.errors import MaxiError, first_line, is_own_mistake
from maxi.files import digest, file_digest
from maxi.models.chat_template import framed
from maxi.models.hugging_face import (
    SAFELY,
    check_files,
    check_report,
    check_vocabulary,
    files_of,
    locate,
    model_type,
    read_tokenizer,
    reading,
)
from maxi.randomness import generator
from maxi.text.reply_store import Replies


@dataclass(frozen=True)
class Language:
    """A causal language model and its tokenizer; `where` names it in messages."""

    model: Any
    tokenizer: Any
    where: str
    weights: str  # digest of its files

    def ask(self, text: str, *, temperature: float, max_tokens: int) -> str:
        """Return the reply to one message; a question that was asked before is answered from disk."""
        replies, question = Replies(["hf", self.weights]), [text, temperature, max_tokens]
        reply = replies.find(question)
        if reply is None:
            reply = self.write(text, temperature=temperature, max_tokens=max_tokens)
            replies.keep(question, reply)
        return reply

    @torch.inference_mode()
    def write(self, text: str, *, temperature: float, max_tokens: int) -> str:
        """Write a new reply; the random seed follows from the text, so the same text gets the same reply.

        Raises MaxiError when the model's context has no room for the text.
        """
        if self.tokenizer.chat_template:
            text = framed(self.tokenizer, text, self.where)
            tokens = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        else:  # a model without chat continues a list that has been begun
            tokens = self.tokenizer(text + "\n1.", return_tensors="pt")
        ids = tokens["input_ids"].to(self.model.device)
        max_length = getattr(self.model.config, "max_position_embeddings", None)
        if max_length is not None:
            max_tokens = min(max_tokens, max_length - ids.shape[1])
        if max_tokens < 1:
            raise MaxiError(
                f"{self.where}: its context of {max_length} tokens is too short for a question;"
                " pass another model"
            )
        torch.manual_seed(int(generator(f"language {text}", 0).integers(2**31)))
        sampling = {"temperature": temperature} if temperature else {}
        written = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            do_sample=bool(sampling),
            **sampling,
        )
        reply: str = self.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        return reply


def find_language(name: str) -> Path:
    """Return the folder of a language model: a local one, or `ID` or `ID@REVISION` of the hub.

    Raises MaxiError when it cannot be found.
    """
    if not name:
        raise MaxiError("expander 'hf' needs a model; write hf:FOLDER or hf:ID")
    return locate(f"hf:{name}", otherwise="--expander shipped+wordnet")


def load_language(name: str, device: str = "cpu") -> Language:
    """Load a causal language model from a local folder, or by `ID` or `ID@REVISION` from the hub.

    Its weights are float32 on the CPU and bfloat16 on CUDA. Raises MaxiError when the model cannot be found, does
    not write texts, or its files are damaged or do not fit together.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as WRITING

    folder, where = find_language(name), f"hf:{name}"
    kind = model_type(folder, where)
    if kind not in WRITING:
        raise MaxiError(
            f"{where} is a model of type {kind!r}, which writes no texts; pass a language model"
        )
    check_files(folder, where)
    with reading(where):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            weights_only=True,
            dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32,
            output_loading_info=True,
            **SAFELY,
        )
        tokenizer = read_tokenizer(folder)
    check_report(report, where)
    check_vocabulary(tokenizer, model.get_input_embeddings().num_embeddings, where)
    weights = digest([file_digest(path) for path in files_of(folder)])
    language = Language(model.to(device).eval(), tokenizer, where, weights)
    _try_out(language)
    return language


def _try_out(language: Language) -> None:
    """Write one token, so that a model whose parts do not fit fails now and not in the middle of a run."""
    try:
        language.write("waving", temperature=0.0, max_tokens=1)
    except MaxiError:
        raise
    except Exception as error:  # the code of any model may raise any error
        if is_own_mistake(error):
            raise
        raise MaxiError(
            f"{language.where} cannot write ({first_line(error)}); pass another model"
        ) from error
