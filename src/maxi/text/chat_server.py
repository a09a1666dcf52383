"""A server that speaks the OpenAI chat protocol, from whom anything may come: bounded in time and size, and checked."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import zlib
from functools import cached_property
from typing import Any, NamedTuple

from maxi.config import ChatConfig
from maxi.errors import MaxiError
from maxi.files import parse_json

KEY = "OPENAI_API_KEY"
MAX_BYTES = 2**20  # of a reply; a longer one is no answer to these questions
TOO_LONG = b'{"choices": []}'  # what such a reply counts as: one without an answer


class Question(NamedTuple):
    """What a model is asked: its messages, the JSON schema wanted, and the longest reply in tokens."""

    messages: Any
    schema: dict[str, Any] | None = None
    max_tokens: int = 400


class Answer(NamedTuple):
    """What a model says, or ""; whether it is not cut off; and the tokens in and out, where the server tells them."""

    text: str
    is_whole: bool = True
    used: tuple[int, int] | None = None


class SchemaError(Exception):
    """The server knows no JSON schemas."""


class ChatServer:
    """One model of one server, asked from one event loop."""

    def __init__(self, model: str, config: ChatConfig) -> None:
        self.model = model
        self.config = config

    def check(self) -> None:
        """Raise MaxiError when nothing can be asked: no client, or no key."""
        _ = self._client

    async def answer(self, question: Question, *, with_schema: bool) -> Answer:
        """Return the server's answer to a question.

        Raises SchemaError where the server refuses the schema, and MaxiError where it refuses the question, cannot be
        reached after the retries, or sends something else than a chat answer.
        """
        import openai

        options: dict[str, Any] = {}
        if question.schema and with_schema:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": question.schema},
            }
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=list(question.messages),
                temperature=self.config.temperature,
                max_tokens=question.max_tokens,
                **options,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if options:  # many servers speak the protocol without schemas
                raise SchemaError from error
            raise self._failed(error) from None
        except (openai.OpenAIError, ValueError) as error:
            raise self._failed(error) from None
        try:
            return read_answer(raw.http_response.content)
        except ValueError as error:
            raise MaxiError(
                f"openai:{self.model}: no chat answer ({self._safe(str(error))}); check --base-url: "
                "replies so far are kept"
            ) from None

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise MaxiError(
                'openai: needs the official client; run `pip install "maxi[openai]"`'
            ) from error
        key, address = os.environ.get(KEY), self.config.server
        if not key and not address:
            raise MaxiError(
                f"openai:{self.model}: needs an API key in the environment variable {KEY},"
                " or --base-url for a server of your own"
            )
        return openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=address,
            timeout=self.config.timeout,
            max_retries=self.config.retries,
            default_headers={"Accept-Encoding": "identity"},
            http_client=_bounded_client(self.config.timeout),
        )

    def _failed(self, error: Exception) -> MaxiError:
        import openai

        text = self._safe(str(getattr(error, "message", None) or error))
        advice = "check the model's name and --base-url, then run again"
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            advice = f"check {KEY} in the environment and --base-url, then run again"
        elif isinstance(error, openai.APITimeoutError):
            advice = "raise chat.timeout or try again later"
        elif isinstance(error, (openai.RateLimitError, openai.InternalServerError)):
            advice = "try again later"
        return MaxiError(f"openai:{self.model}: {text}; {advice}: replies so far are kept")

    def _safe(self, text: str) -> str:
        """Return the beginning of a server's text in one line, without the key and the password."""
        for secret in (os.environ.get(KEY), self.config.server):
            text = text.replace(secret, "...") if secret else text
        text = re.sub(r"\bsk-[\w*-]+", "...", text)  # servers quote parts of it
        return " ".join(text.split())[:300].rstrip(".")


def _bounded_client(seconds: float) -> Any:
    """Return an HTTP client that reads a whole reply in so many seconds and MAX_BYTES, or not at all.

    The timeouts of HTTP clients count from one byte to the next, and would let a reply go on for ever.
    """
    import openai

    class Bounded(openai.DefaultAsyncHttpxClient):  # type: ignore[misc]
        async def send(self, request: Any, **options: Any) -> Any:
            try:
                return await asyncio.wait_for(self._whole(request, **options), seconds)
            except asyncio.TimeoutError:
                # openai 2 speaks through httpx, openai 3 through httpx2.
                http = importlib.import_module(type(request).__module__.partition(".")[0])
                raise http.ReadTimeout("no whole reply in time", request=request) from None

        async def _whole(self, request: Any, **options: Any) -> Any:
            response = await super().send(request, **{**options, "stream": True})
            received = bytearray()
            try:
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > MAX_BYTES:
                        break
            finally:
                await response.aclose()
            headers = [
                (name, value)
                for name, value in response.headers.items()
                if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
            ]
            content = _inflated(bytes(received), response.headers.get("content-encoding"))
            return type(response)(
                response.status_code, headers=headers, content=content, request=request
            )

    return Bounded()


def _inflated(received: bytes, encoding: str | None) -> bytes:
    """Return the content of a reply, or TOO_LONG; it may be compressed although that was not asked for."""
    if encoding in ("gzip", "deflate"):
        try:
            received = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(received, MAX_BYTES + 1)
        except zlib.error:
            return received
    return received if len(received) <= MAX_BYTES else TOO_LONG


def read_answer(content: bytes) -> Answer:
    """Return the answer in the body of a reply. Raises ValueError, which says why, where it is not of the protocol."""
    try:
        data = parse_json(content)
    except ValueError:
        raise ValueError("not JSON" if content.strip() else "an empty body") from None
    if not isinstance(data, dict):
        raise ValueError("JSON of another kind")
    if error := data.get("error"):
        message = error.get("message") if isinstance(error, dict) else error
        raise ValueError(f"an error: {message}")
    choices = data.get("choices")
    if not isinstance(choices, list):
        raise ValueError("JSON without `choices`")
    if not choices:
        return Answer("")
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise ValueError("a choice without `message`")
    text = message.get("content")
    if isinstance(text, list):  # in parts
        parts = [part.get("text") for part in text if isinstance(part, dict)]
        text = "".join(part for part in parts if isinstance(part, str))
    if text is not None and not isinstance(text, str):
        raise ValueError("a message whose `content` is no text")
    is_whole = choice.get("finish_reason") not in ("length", "content_filter")
    return Answer(text or "", is_whole, _used(data.get("usage")))


def _used(usage: Any) -> tuple[int, int] | None:
    """Return the tokens in and out that a server tells, if it tells them."""
    match usage:
        case {"prompt_tokens": int(n_in), "completion_tokens": int(n_out)}:
            return max(0, n_in), max(0, n_out)
    return None
