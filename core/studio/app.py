"""The server of the page: what it shows, studies that it asks for, and their files."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import traceback
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import core
from core.errors import UserError
from core.model.model import Model
from core.studio.jobs import Job, Jobs
from core.studio.messages import public
from core.studio.pictures import volume_of
from core.studio.requests import read_order

_PAGE = Path(__file__).parent / "page"
_PAUSE_S = 0.05  # between two looks at the events of a job
_BEAT_S = 15  # proxies close a connection that is silent
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def create_app(model: Model, *, upload_bytes: int, hosts: Sequence[str]) -> Starlette:
    """Return the application that serves one model; its ``state.jobs`` is to be closed where no server does.

    ``upload_bytes``: the most that a request may send. ``hosts``: the names under which the page may be asked for,
    ``*`` for any. A page of another site, which could point a name of its own at this address, is refused.
    """
    jobs = Jobs(model)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        jobs.close()

    allowed = [name.lower() for host in hosts for name in ({host, f"[{host}]"} if ":" in host else {host})]
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/api/model", _model),
            Route("/api/studies", _submit, methods=["POST"]),
            Route("/api/studies/{job}/events", _events),
            Route("/api/studies/{job}/data/{modality}", _data),
            Route("/api/studies/{job}/download", _download),
            Route("/api/studies/{job}", _cancel, methods=["DELETE"]),
            Mount("/static", StaticFiles(directory=_PAGE)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=allowed),
            Middleware(_Guard, upload_bytes=upload_bytes, hosts=allowed),
        ],
        exception_handlers={UserError: _wrong_input, HTTPException: _wrong_request, OSError: _failed},
        lifespan=lifespan,
    )
    app.state.jobs = jobs
    return app


class _Guard:
    """Refuses requests of other sites and bodies that are too large, and sends the security headers."""

    def __init__(self, app: ASGIApp, upload_bytes: int, hosts: Sequence[str]) -> None:
        self._app, self._most, self._hosts = app, upload_bytes, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, size = Request(scope), 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                raise HTTPException(413, _too_large(self._most))
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {key for key, _ in message["headers"]}
                added = [(key.encode(), value.encode()) for key, value in _HEADERS.items() if key.encode() not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if not self._from_same_site(request):
            await _error("this request comes from another site", 403)(scope, receive, with_headers)
        elif int(request.headers.get("content-length") or 0) > self._most:
            await _error(_too_large(self._most), 413)(scope, receive, with_headers)
        else:
            await self._app(scope, counted, with_headers)

    def _from_same_site(self, request: Request) -> bool:
        """Return whether a request comes from the page: a browser states the site of every other one."""
        origin = request.headers.get("origin")
        if not origin or origin.partition("://")[2] == request.headers.get("host"):
            return True
        name = origin.partition("://")[2].lower()
        name = name if name.endswith("]") else name.rpartition(":")[0] or name
        return name in self._hosts  # behind a proxy the port is another


def _page(_: Request) -> Response:
    return FileResponse(_PAGE / "index.html")


def _model(request: Request) -> Response:
    """Describe the model: its outputs, what can be written, and what can be given as a file."""
    model = _jobs(request).model
    described, run = model.describe(), model.bundle.run
    read = {name for output in described.values() for name in (*output.prompts, *output.unpaired_prompts)}
    given = {name for output in described.values() for name in output.partners}
    texts = _texts(model)
    inputs = [
        {"name": name, "title": run.modalities[name].title, "prompt": name in read, "condition": name in given}
        for name in run.flows.union.modalities
        if name in read | given and (name in texts or run.parts(name).reader is not None)
    ]
    return JSONResponse(
        {
            "name": run.config.run.resolve().name,
            "version": core.__version__,
            "outputs": [{"name": name, "title": output.title} for name, output in described.items()],
            "texts": [each for each in inputs if each["name"] in texts],
            "files": [each for each in inputs if each["name"] not in texts],
            "sampler": {"steps": run.config.sampler.steps},
        }
    )


async def _submit(request: Request) -> Response:
    jobs = _jobs(request)
    jobs.require_room()
    try:
        order = await read_order(request, _texts(jobs.model), jobs.folder)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    try:
        if await request.is_disconnected():  # the page was told to stop
            raise UserError("the page is gone")
        return JSONResponse({"study": jobs.submit(order).name}, 202)
    except BaseException:
        order.remove_uploads()
        raise


async def _events(request: Request) -> Response:
    """Send the events of a study as they come (server-sent events); a page that lost some gets the rest."""
    jobs, job = _jobs(request), _job(request)
    seen = request.headers.get("last-event-id", "")

    async def stream() -> AsyncIterator[str]:
        sent, beat = (int(seen) + 1 if seen.isdecimal() else 0), time.monotonic()
        while not jobs.stopping.is_set():
            job.followed = time.monotonic()
            ended = job.ended  # before the events are read, or the last one might be missed
            for event in job.events[sent:]:
                yield f"id: {sent}\ndata: {json.dumps(event)}\n\n"
                sent += 1
            if ended:
                return
            if time.monotonic() - beat > _BEAT_S:
                beat = time.monotonic()
                yield ": waiting\n\n"
            await asyncio.sleep(_PAUSE_S)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _data(request: Request) -> Response:
    """Send an image of a finished study: float32, little-endian, in the shape that its event says."""
    study, name = _job(request).finished_study(), request.path_params["modality"]
    data = study.shown[name].data if name in study else ""
    if isinstance(data, str):
        raise UserError(f"'{name}' is no image of this study")
    volume = volume_of(data, study.resolved.bundle.run.parts(name).data)
    return Response(volume.astype("<f4").tobytes(), media_type="application/octet-stream")


def _download(request: Request) -> Response:
    """Send all files of a finished study as a ZIP archive, in the default formats or those of ``format``."""
    jobs, format = _jobs(request), request.query_params.get("format") or None
    study = _job(request).finished_study()
    folder = tempfile.TemporaryDirectory(dir=jobs.folder)
    try:
        saved = study.save(Path(folder.name) / f"study-{study.resolved.request.seed}", format)
        archive = Path(folder.name) / f"{saved.name}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for file in sorted(path for path in saved.rglob("*") if path.is_file()):
                target.write(file, Path(saved.name) / file.relative_to(saved))
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(archive, filename=archive.name, background=BackgroundTask(folder.cleanup))


def _cancel(request: Request) -> Response:
    _jobs(request).cancel(_job(request))
    return JSONResponse({})


def _jobs(request: Request) -> Jobs:
    return request.app.state.jobs


def _job(request: Request) -> Job:
    return _jobs(request).find(request.path_params["job"])


def _texts(model: Model) -> list[str]:
    """Return the modalities that are written into the page."""
    run = model.bundle.run
    return [name for name in run.flows.union.modalities if run.parts(name).data.kind == "tokens"]


def _too_large(most: int) -> str:
    return f"the files are larger than {most // 10**6} MB together; send fewer, or start the page with --max-upload"


def _error(message: str, status: int) -> JSONResponse:
    return JSONResponse({"error": message}, status)


def _wrong_input(request: Request, error: Exception) -> Response:
    return _error(_jobs(request).public(error), 400)


def _wrong_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for them
    return _error(public(error.detail), error.status_code)


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101  # it is registered for them
    traceback.print_exception(error)
    return _error(f"the server cannot write or read a file ({error.strerror or type(error).__name__})", 507)
