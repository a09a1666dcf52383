"""Models behind the OpenAI chat protocol: good replies are kept on disk, spending stops in time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from maxi.config import ChatConfig
from maxi.errors import MaxiError
from maxi.text.chat_server import ChatServer, Question, SchemaError
from maxi.text.reply_store import Replies

logger = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 4  # of English text, to estimate what a call will cost
MAX_REPLY = 20_000  # characters; a longer reply is no answer to these questions
TOKENS_PER_IMAGE = 800  # what a picture of at most 512 pixels costs with most models, roughly
POLL = 0.05  # seconds after which it is looked again whether another has the reply to the same question


class Cost(NamedTuple):
    """What asking would cost: calls that are not kept yet, tokens, and dollars where prices are set."""

    calls: int
    kept: int
    tokens_in: int
    tokens_out: int
    dollars: float | None


def tokens_of(question: Question) -> tuple[int, int]:
    """Return the tokens in, and at most out, of a question, roughly."""
    text, images = 0, 0
    for message in question.messages:
        parts = message["content"]
        for part in [{"text": parts}] if isinstance(parts, str) else parts:
            text += len(part.get("text", ""))
            images += "image_url" in part
    return text // CHARACTERS_PER_TOKEN + images * TOKENS_PER_IMAGE, question.max_tokens


@dataclass
class Chat:
    """One model of one server, which any thread may ask; all calls are made in an event loop of their own thread.

    Raises MaxiError when the server refuses, cannot be reached after the retries, or a limit is reached; replies that
    came before are kept, so the next run goes on from there.
    """

    model: str
    config: ChatConfig
    n_calls: int = 0
    cost: float = 0.0
    _knows_schemas: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Question) -> str:
        """Return the reply to one question; see `ask_all`."""
        return next(self.ask_all([question]))

    def ask_all(self, questions: Sequence[Question]) -> Iterator[str]:
        """Yield replies in the order of the questions, `chat.parallel` of them under way at a time.

        A reply is taken from disk where the same was asked before; "" stands for none, where the model says nothing or
        refuses by protocol. When the reader goes away, as after Ctrl-C, what is under way is given up at once.
        """
        loop, failed = self._loop, threading.Event()
        futures = [
            asyncio.run_coroutine_threadsafe(self._in_turn(q, failed), loop) for q in questions
        ]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def check(self) -> None:
        """Raise MaxiError when nothing can be asked: no client, or no key."""
        self._server.check()

    def cost_of(self, questions: Sequence[Question]) -> Cost:
        """Return what `ask_all` would cost, without asking."""
        new = [q for q in questions if self._kept.find(q) is None]
        tokens = [tokens_of(q) for q in new]
        n_in, n_out = sum(t[0] for t in tokens), sum(t[1] for t in tokens)
        return Cost(len(new), len(questions) - len(new), n_in, n_out, self.price(n_in, n_out))

    def price(self, tokens_in: int, tokens_out: int) -> float | None:
        """Return dollars for so many tokens; None without `chat.prices`."""
        if self.config.prices is None:
            return None
        of_in, of_out = self.config.prices
        return (tokens_in * of_in + tokens_out * of_out) / 1e6

    @cached_property
    def _kept(self) -> Replies:
        decisive = self.config.decisive()
        return Replies(["openai", decisive["base_url"], self.model, decisive["temperature"]])

    @cached_property
    def _server(self) -> ChatServer:
        if not self.config.base_url and self.config.server:
            logger.warning(
                "openai:%s: asks %s, which OPENAI_BASE_URL names",
                self.model,
                self.config.decisive()["base_url"],
            )
        return ChatServer(self.model, self.config)

    @cached_property
    def _room(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.config.parallel)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            return self._started_loop

    @cached_property
    def _started_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="maxi-chat", daemon=True).start()
        return loop

    async def _in_turn(self, question: Question, failed: threading.Event) -> str:
        """Return a reply when there is room for the question; none is begun after another one has failed.

        That is decided here, on the loop's own thread: the reader may learn of a failure later, and each call is paid.
        """
        async with self._room:
            if failed.is_set():
                raise asyncio.CancelledError
            try:
                return await self._reply(question)
            except BaseException:
                failed.set()
                raise

    async def _reply(self, question: Question) -> str:
        """Return a reply from disk, or ask for it; others with the same question, also in other processes, wait."""
        while (kept := self._kept.find(question)) is None:
            give_up = self._kept.claim(question)
            if give_up is None:
                await asyncio.sleep(POLL)
                continue
            try:
                if (kept := self._kept.find(question)) is None:
                    kept = await self._ask(question)
            finally:
                give_up()
            break
        return kept

    async def _ask(self, question: Question) -> str:
        """Ask the server, and keep its reply where it is a good one: whole, and neither empty nor endless."""
        self._spend(question)
        try:
            answer = await self._server.answer(question, with_schema=self._knows_schemas)
        except SchemaError:
            self._knows_schemas = False
            self._spend(question)
            answer = await self._server.answer(question, with_schema=False)
        if answer.used:  # what it did cost, in place of the most it could
            self.cost += (self.price(*answer.used) or 0.0) - (
                self.price(*tokens_of(question)) or 0.0
            )
        if not answer.text.strip() or len(answer.text) > MAX_REPLY:
            return ""
        if answer.is_whole:
            self._kept.keep(question, answer.text)
            return answer.text
        logger.warning(
            "openai:%s: a reply was cut off by the model's limit; what came is used and not kept",
            self.model,
        )
        whole_lines, _, cut_line = answer.text.rpartition("\n")
        return whole_lines or cut_line

    def _spend(self, question: Question) -> None:
        """Count a call before it is made, at its highest cost; raises MaxiError where it would pass a limit."""
        limits = self.config
        cost = self.price(*tokens_of(question)) or 0.0
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


def tell(cost: Cost) -> str:
    """Return a cost in one line."""
    price = (
        "price unknown: set chat.prices"
        if cost.dollars is None
        else f"at most {cost.dollars:.2f} dollars"
    )
    return (
        f"{cost.calls:,} calls, about {cost.tokens_in:,} tokens in and at most {cost.tokens_out:,} out, {price};"
        f" {cost.kept:,} replies are kept already"
    )
