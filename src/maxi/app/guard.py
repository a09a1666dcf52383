"""Guard: who may ask the local server, and what a browser may do with its pages."""

from __future__ import annotations

import hmac
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Answers only a browser that has the token, on this machine's own address, from this server's own pages.

    A web page elsewhere may send requests to this address too, or give its own name this address (DNS rebinding). So
    the Host header must be one of ours, a request that changes something must come from our pages, and each needs the
    cookie that the address with the token sets.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._cookie = f"maxi-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not; all answers get the headers of the policy."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", POLICY)
                headers.setdefault("Cache-Control", "no-store")
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_with_policy)

    def _refusal(self, request: Request) -> Response | None:
        host, method = request.headers.get("host", ""), request.method
        if host not in self._hosts:
            return _refused(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
        if (
            "\0" in request.scope["path"]
        ):  # no system has such a file, and some versions of Starlette ask for it
            return _refused(HTTPStatus.NOT_FOUND, "there is no such page")
        if method not in ("GET", "HEAD"):
            # Browsers send one of the two with every request that may change something.
            origin = request.headers.get("origin")
            site = request.headers.get("sec-fetch-site", "same-origin")
            if site != "same-origin" or (origin and origin != f"http://{host}"):
                return _refused(HTTPStatus.FORBIDDEN, "the request comes from another page")
        if method == "GET" and self._is_token(request.query_params.get("token", "")):
            found = RedirectResponse(request.url.path, HTTPStatus.SEE_OTHER)
            found.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return found
        if not self._is_token(request.cookies.get(self._cookie, "")):
            return _refused(
                HTTPStatus.FORBIDDEN, "open the address that `maxi open` printed, with its token"
            )
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())


def _refused(status: HTTPStatus, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)
