"""A server on this machine that speaks the OpenAI chat protocol and misbehaves as it is told to."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

GOOD = '{"phrases": ["moving a hand", "raising one arm", "greeting people", "lifting a palm", "saying hello"]}'


class Raw(NamedTuple):
    """The body of a reply as it is sent."""

    body: bytes
    encoding: str = ""


@dataclass
class Server:
    """What it answers, first to last, then `GOOD`; an item is a status, a text, or what to do."""

    url: str = ""
    script: list[Any] = field(default_factory=list)
    schemas: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    per_question: dict[str, Any] = field(default_factory=dict)
    hangs_after: float = math.inf  # questions
    ended: threading.Event = field(default_factory=threading.Event)

    def next(self, body: dict[str, Any]) -> Any:
        with self.lock:
            self.asked.append(body)
            if len(self.asked) > self.hangs_after:
                return "HANG"
            text = json.dumps(body["messages"])
            for part, answer in self.per_question.items():
                if part in text:
                    return answer
            return self.script.pop(0) if self.script else GOOD


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.keys.append(self.headers.get("Authorization", ""))
            if "response_format" in body and not server.schemas:
                server.asked.append(body)
                return self.send(400, {"error": {"message": "response_format is not supported"}})
            answer = server.next(body)
            if isinstance(answer, int):
                return self.send(
                    answer, {"error": {"message": f"told to fail, key {server.keys[-1]}"}}
                )
            if answer == "HANG":
                server.ended.wait()
            if answer == "HALF":
                return self.send_raw(200, b'{"choices": [{"message": {"cont', length=4000)
            if answer == "NOISE":
                return self.send_raw(200, b"<html>gateway</html>")
            if answer == "ENDLESS":
                return self.send_bit_by_bit(b" " * 65536, pause=0)
            if answer == "SLOW":
                return self.send_bit_by_bit(b" ", pause=0.1)
            if isinstance(answer, Raw):
                return self.send_raw(200, answer.body, encoding=answer.encoding)
            message = {"role": "assistant", "content": answer}
            usage = {"prompt_tokens": 40, "completion_tokens": 60, "total_tokens": 100}
            choices = [{"index": 0, "finish_reason": "stop", "message": message}]
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
            return self.send(200, {**reply, "choices": choices, "usage": usage})

        def send(self, status: int, data: Any) -> None:
            self.send_raw(status, json.dumps(data).encode())

        def send_bit_by_bit(self, bit: bytes, pause: float) -> None:
            """Send a body that never ends."""
            with suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                while not server.ended.wait(pause):
                    self.wfile.write(bit)
            self.close_connection = True

        def send_raw(
            self, status: int, data: bytes, length: int | None = None, encoding: str = ""
        ) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(length or len(data)))
                self.send_header("retry-after-ms", "10")
                if encoding:
                    self.send_header("Content-Encoding", encoding)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client went away
                pass
            if length:
                self.close_connection = True

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        httpd.shutdown()
        httpd.server_close()
