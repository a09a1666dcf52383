"""Models behind the OpenAI chat protocol: every reply kept on disk, failures retried, spending stopped in time."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from maxi.config import ChatConfig
from maxi.errors import MaxiError
from maxi.text.reply_store import Replies

KEY = "OPENAI_API_KEY"
CHARACTERS_PER_TOKEN = 4  # of English text, to estimate what a call will cost
MAX_REPLY = 20_000  # characters; a longer reply is no answer to these questions
TOKENS_PER_IMAGE = 800  # what a picture of at most 512 pixels costs with most models, roughly


class Question(NamedTuple):
    """What a model is asked: its messages, the JSON schema wanted, and the longest reply in tokens."""

    messages: Sequence[dict[str, Any]]
    schema: dict[str, Any] | None = None
    max_tokens: int = 400

    def estimate(self) -> tuple[int, int]:
        """Tokens in and at most out, roughly."""
        text, images = 0, 0
        for message in self.messages:
            parts = message["content"]
            for part in [{"text": parts}] if isinstance(parts, str) else parts:
                text += len(part.get("text", ""))
                images += "image_url" in part
        return text // CHARACTERS_PER_TOKEN + images * TOKENS_PER_IMAGE, self.max_tokens


class Cost(NamedTuple):
    """What asking would cost: calls that are not kept yet, tokens, and dollars where prices are set."""

    calls: int
    kept: int
    tokens_in: int
    tokens_out: int
    dollars: float | None


@dataclass
class Chat:
    """One model of one server. `ask` may be called from several threads.

    Raises MaxiError when the server refuses, cannot be reached after the retries, or a limit is reached; replies that
    came before are kept, so the next run goes on from there.
    """

    model: str
    config: ChatConfig
    n_calls: int = 0
    cost: float = 0.0
    _plain: bool = False  # the server knows no schemas
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Question) -> str:
        """The reply's text, from disk where the same was asked before; empty where the model refuses by protocol."""
        kept = self._kept.find(question)
        if kept is None:
            self._spend(question)
            kept = self._call(question)
            kept = "" if len(kept) > MAX_REPLY else kept
            if kept.strip():  # an empty reply is no answer, so the next run asks again
                self._kept.keep(question, kept)
        return kept

    def check(self) -> None:
        """MaxiError when nothing can be asked: no client, or no key."""
        _ = self._client

    def ask_all(self, questions: Sequence[Question]) -> Iterator[str]:
        """Replies in the questions' order, `chat.parallel` of them under way at a time."""
        with ThreadPoolExecutor(self.config.parallel) as pool:
            try:
                yield from pool.map(self.ask, questions)
            finally:
                pool.shutdown(cancel_futures=True)

    def cost_of(self, questions: Sequence[Question]) -> Cost:
        """What `ask_all` would cost, without asking."""
        new = [q for q in questions if self._kept.find(q) is None]
        tokens = [q.estimate() for q in new]
        n_in, n_out = sum(t[0] for t in tokens), sum(t[1] for t in tokens)
        return Cost(len(new), len(questions) - len(new), n_in, n_out, self.price(n_in, n_out))

    def price(self, tokens_in: int, tokens_out: int) -> float | None:
        """Dollars for so many tokens; None without `chat.prices`."""
        if self.config.prices is None:
            return None
        of_in, of_out = self.config.prices
        return (tokens_in * of_in + tokens_out * of_out) / 1e6

    @property
    def _kept(self) -> Replies:
        return Replies(["openai", self.config.base_url, self.model, self.config.temperature])

    def _spend(self, question: Question) -> None:
        """Count a call before it is made, at its highest cost; MaxiError where it would pass a limit."""
        limits = self.config
        cost = self.price(*question.estimate()) or 0.0
        with self._lock:
            if limits.max_calls is not None and self.n_calls >= limits.max_calls:
                raise MaxiError(
                    f"openai:{self.model}: stopped after {self.n_calls} calls (chat.max_calls); raise it and run again:"
                    " replies so far are kept"
                )
            if limits.max_cost is not None and self.cost + cost > limits.max_cost:
                raise MaxiError(
                    f"openai:{self.model}: stopped at {self.cost:.2f} dollars, the next call could pass chat.max_cost;"
                    " raise it and run again: replies so far are kept"
                )
            self.n_calls += 1
            self.cost += cost

    def _call(self, question: Question) -> str:
        import openai

        options: dict[str, Any] = {}
        if question.schema and not self._plain:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": question.schema},
            }
        try:
            completion = self._client.chat.completions.create(
                model=self.model,
                messages=list(question.messages),
                temperature=self.config.temperature,
                max_tokens=question.max_tokens,
                **options,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if options:  # many servers speak the protocol without schemas
                self._plain = True
                self._spend(question)
                return self._call(question)
            raise self._failed(error) from None
        except (openai.OpenAIError, ValueError) as error:
            raise self._failed(error) from None
        message = completion.choices[0].message if completion.choices else None
        if usage := completion.usage:  # what it did cost, in place of the most it could
            used = (usage.prompt_tokens, usage.completion_tokens)
            with self._lock:
                self.cost += (self.price(*used) or 0.0) - (self.price(*question.estimate()) or 0.0)
        return (message.content or "") if message else ""

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise MaxiError(
                'openai: needs the official client; run `pip install "maxi[openai]"`'
            ) from error
        key = os.environ.get(KEY)
        if not key and not self.config.base_url:
            raise MaxiError(
                f"openai:{self.model}: needs an API key in the environment variable {KEY},"
                " or --base-url for a server of your own"
            )
        return openai.OpenAI(
            api_key=key or "none",
            base_url=self.config.base_url,
            timeout=self.config.timeout,
            max_retries=self.config.retries,
        )

    def _failed(self, error: Exception) -> MaxiError:
        import openai

        text = str(getattr(error, "message", None) or error)
        text = " ".join(self._without_key(text).split())[:300].rstrip(".")
        advice = "check the model's name and --base-url, then run again"
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            advice = f"check {KEY} in the environment, then run again"
        elif isinstance(error, openai.APITimeoutError):
            advice = "raise chat.timeout or try again later"
        elif isinstance(error, (openai.RateLimitError, openai.InternalServerError)):
            advice = "try again later"
        return MaxiError(f"openai:{self.model}: {text}; {advice}: replies so far are kept")

    def _without_key(self, text: str) -> str:
        key = os.environ.get(KEY)
        text = text.replace(key, "...") if key else text
        return re.sub(r"\bsk-[\w*-]+", "...", text)  # servers quote parts of it


def tell(cost: Cost) -> str:
    """A cost in one line."""
    price = (
        "price unknown: set chat.prices"
        if cost.dollars is None
        else f"at most {cost.dollars:.2f} dollars"
    )
    return (
        f"{cost.calls:,} calls, about {cost.tokens_in:,} tokens in and at most {cost.tokens_out:,} out, {price};"
        f" {cost.kept:,} replies are kept already"
    )
