"""A language model's chat template, a program of others: it runs once, in a process that is killed when it is late.

`python -m maxi.models.chat_template` is that process: it reads a template and its special tokens as JSON, and writes
what the template makes of the message PLACE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from maxi.errors import MaxiError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACE = "the question stands here"
SECONDS = 60.0
MEMORY = 4 * 2**30  # bytes of address space
LONGEST = 100_000  # characters that a template may add


def framed(tokenizer: PreTrainedTokenizerBase, text: str, where: str) -> str:
    """Return a message as the model reads it: what its chat template puts before it, the text, and what is behind it.

    Raises MaxiError when the template fails, is late, or does not hold the message once.
    """
    before, after = _frame(
        json.dumps([tokenizer.get_chat_template(), tokenizer.special_tokens_map]), where
    )
    return before + text + after


@cache
def _frame(asked: str, where: str) -> tuple[str, str]:
    """Return what a template puts before and behind a message."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    command = [sys.executable, "-m", "maxi.models.chat_template"]
    reason = "does not hold the message once"
    try:
        done = subprocess.run(
            command,
            input=asked.encode(),
            capture_output=True,
            timeout=SECONDS,
            env=environment,
            check=True,
        )
        before, *rest = json.loads(done.stdout).split(PLACE)
    except subprocess.TimeoutExpired:
        rest, reason = [], f"ran for more than {SECONDS:g} s"
    except (subprocess.CalledProcessError, ValueError):
        rest, reason = [], "fails"
    if len(rest) != 1:
        raise MaxiError(
            f"{where}: its chat template {reason}; copy the tokenizer of the original model"
        )
    return before, rest[0]


def _main() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    with suppress(ImportError, OSError, ValueError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    template, special_tokens = json.load(sys.stdin)
    rendered, _ = render_jinja_template(
        conversations=[[{"role": "user", "content": PLACE}]],
        chat_template=template,
        add_generation_prompt=True,
        **special_tokens,
    )
    json.dump(rendered[0][:LONGEST], sys.stdout)


if __name__ == "__main__":
    _main()
