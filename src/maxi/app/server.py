"""The local server: which address shows which page, and how it is started."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from maxi.app import clips, editing, judging, pages, recognising, searching
from maxi.app.desk import Desk
from maxi.app.guard import Guard
from maxi.app.uploads import LARGEST, UnknownError
from maxi.errors import MaxiError
from maxi.files import parse_json

HOST = "127.0.0.1"
MOST_JSON = 2**20  # bytes of a request that is no video
STATIC = Path(__file__).parent / "static"
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"
)

Endpoint = Callable[[Request], Awaitable[Response]]
Data = TypeVar("Data", bound=BaseModel)


class TooLargeError(MaxiError):
    """A request has more bytes than the server takes."""


def build(desk: Desk, token: str, port: int) -> Guard:
    """Return the application for a run that is open."""
    routes = [
        *(Route(path, _page(desk, name)) for path, name in pages.PAGES.items()),
        Route("/report", _report(desk)),
        Route("/style.css", _style),
        Route("/preview/{video}.mp4", _preview(desk)),
        Route("/pictures/{video}.jpg", _pictures(desk)),
        Route("/api/shown", _api(desk, judging.Shown, judging.shown), methods=["POST"]),
        Route("/api/answer", _api(desk, judging.Answered, judging.answer), methods=["POST"]),
        Route("/api/undo", _api(desk, judging.Shown, judging.undo), methods=["POST"]),
        Route("/api/search", _api(desk, searching.Query, searching.search), methods=["POST"]),
        Route("/api/moment", _api(desk, searching.Query, searching.moment), methods=["POST"]),
        Route("/api/rows", _api(desk, editing.Wanted, editing.rows), methods=["POST"]),
        Route("/api/weigh", _api(desk, editing.Weighed, editing.weigh), methods=["POST"]),
        Route("/api/correct", _api(desk, editing.Corrected, editing.correct), methods=["POST"]),
        Route("/api/upload", _upload(desk), methods=["POST"]),
        Route(
            "/api/classify", _api(desk, recognising.Task, recognising.recognise), methods=["POST"]
        ),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Guard(Starlette(routes=routes), token, port)


def serve(desk: Desk, port: int, opened: Callable[[str], object]) -> None:
    """Serve the pages until Ctrl-C; `opened` is given the address with the token when it can be opened.

    Raises MaxiError when the port is taken.
    """
    import uvicorn

    token = secrets.token_urlsafe(24)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise MaxiError(
                f"--port {port}: cannot be used ({error.strerror}); choose another, or leave it out"
            ) from error
        listener.listen()
        port = listener.getsockname()[1]
        app = build(desk, token, port)
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
        opened(f"http://{HOST}:{port}/?token={token}")
        try:
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            desk.uploads.close()


def _answered(function: Callable[[], Response]) -> Response:
    """Return the response, or the error of the user's side as one sentence; one of our own code stays one."""
    try:
        return function()
    except UnknownError as error:
        return _error(404, error)
    except MaxiError as error:
        return _error(409, error)
    except OSError as error:
        return _error(409, _of_system(error))


def _of_system(error: OSError) -> MaxiError:
    where = f"{error.filename}: " if error.filename else ""
    return MaxiError(
        f"{where}{error.strerror or error}; make room or change the permissions, and try again"
    )


def _error(status: int, error: MaxiError) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, status)


def _api(desk: Desk, kind: type[Data], function: Callable[[Desk, Data], Any]) -> Endpoint:
    """Return what answers a request with a JSON body of this kind."""

    async def endpoint(request: Request) -> Response:
        try:
            data = kind.model_validate(parse_json(await _body(request, MOST_JSON)))
        except TooLargeError as error:
            return _error(413, error)
        except (ValidationError, ValueError):
            return _error(400, MaxiError("the request is not as this page sends it; load it again"))
        return await run_in_threadpool(_answered, lambda: JSONResponse(function(desk, data)))

    return endpoint


async def _body(request: Request, most: int) -> bytes:
    """Read the body of a request. Raises TooLargeError when it is larger than `most` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLargeError(f"the request has more than {most} bytes")
        parts.append(part)
    return b"".join(parts)


def _page(desk: Desk, name: str) -> Endpoint:
    def made() -> Response:
        try:
            return HTMLResponse(pages.page(desk, name))
        except MaxiError as error:
            return HTMLResponse(pages.error_page(desk, name, str(error)), 409)

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(_answered, made)

    return endpoint


def _report(desk: Desk) -> Endpoint:
    """Return what shows the report, which has no scripts, but has styles in itself."""

    async def endpoint(request: Request) -> Response:
        if not desk.run.report.is_file():
            return _error(
                404, MaxiError(f"there is no report; run `maxi report {desk.run.folder}`")
            )
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return FileResponse(desk.run.report, headers=headers, media_type="text/html")

    return endpoint


async def _style(request: Request) -> Response:
    return Response(pages.style(), media_type="text/css")


def _preview(desk: Desk) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            start, end = (
                float(request.query_params.get(name, default))
                for name, default in (("start", "0"), ("end", str(clips.WHOLE)))
            )
            if not 0 <= start < end <= clips.WHOLE:
                raise ValueError
        except ValueError:
            return _error(400, MaxiError("start and end are seconds, from 0 on"))

        def made() -> Response:
            video = desk.video(request.path_params["video"])
            return _kept_file(clips.preview(desk, video, start, end), "video/mp4")

        return await run_in_threadpool(_answered, made)

    return endpoint


def _pictures(desk: Desk) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        n = 1 if request.query_params.get("n") == "1" else clips.N_FRAMES

        def made() -> Response:
            video = desk.video(request.path_params["video"])
            return _kept_file(clips.pictures(desk, video, n), "image/jpeg")

        return await run_in_threadpool(_answered, made)

    return endpoint


def _kept_file(path: Path, kind: str) -> Response:
    """Return a file that never changes, so that the browser may keep it."""
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})


def _upload(desk: Desk) -> Endpoint:
    """Return what keeps an uploaded video; it is decoded like any other, in a process that can be killed."""

    async def endpoint(request: Request) -> Response:
        too_large = MaxiError(
            f"the video has more than {LARGEST // 2**20} MiB; use `maxi classify`"
        )
        if int(request.headers.get("content-length", "0") or 0) > LARGEST:
            return _error(413, too_large)
        number, path = desk.uploads.new()
        size = 0
        try:
            with path.open("wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > LARGEST:
                        break
                    await run_in_threadpool(file.write, part)
        except ClientDisconnect:
            size = LARGEST + 1
        except OSError as error:
            path.unlink(missing_ok=True)
            return _error(409, _of_system(error))
        if size > LARGEST:
            path.unlink(missing_ok=True)
            return _error(413, too_large)
        return JSONResponse({"upload": number})

    return endpoint
