"""The server of the page: what it shows, studies that it asks for, and their files."""

from __future__ import annotations

import asyncio
import json
import tempfile
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import core
from core.cli.text import as_single_line
from core.errors import UserError
from core.generate.output.writers import writers_of
from core.model.model import Model
from core.studio.jobs import Job, Jobs
from core.studio.pictures import volume_of
from core.studio.requests import read_order

_PAGE = Path(__file__).parent / "page"
_PAUSE_S = 0.05  # between two looks at the events of a job
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def create_app(model: Model, *, upload_bytes: int, hosts: Sequence[str]) -> Starlette:
    """Return the application that serves one model.

    ``upload_bytes``: the most that a request may send. ``hosts``: the names under which the page may be asked for; a
    page of another site, which could point a name of its own at this address, is refused.
    """
    jobs = Jobs(model)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        jobs.close()

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
            Middleware(TrustedHostMiddleware, allowed_hosts=[_in_url(host) for host in hosts]),
            Middleware(_Guard, upload_bytes=upload_bytes),
        ],
        exception_handlers={UserError: _wrong_input, HTTPException: _wrong_request},
        lifespan=lifespan,
    )
    app.state.jobs = jobs
    return app


class _Guard:
    """Refuses requests of other sites and bodies that are too large, and sends the security headers."""

    def __init__(self, app: ASGIApp, upload_bytes: int) -> None:
        self._app, self._most = app, upload_bytes

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

        origin = request.headers.get("origin")
        if origin and origin.partition("://")[2] != request.headers.get("host"):
            await _error("this request comes from another site", 403)(scope, receive, with_headers)
        elif int(request.headers.get("content-length") or 0) > self._most:
            await _error(_too_large(self._most), 413)(scope, receive, with_headers)
        else:
            await self._app(scope, counted, with_headers)


def _page(_: Request) -> Response:
    return FileResponse(_PAGE / "index.html")


def _model(request: Request) -> Response:
    """Describe the model: its outputs, what can be written, what can be given as a file, how studies are saved."""
    model = _jobs(request).model
    described, run = model.describe(), model.bundle.run
    read = {name for output in described.values() for name in (*output.prompts, *output.unpaired_prompts)}
    given = {name for output in described.values() for name in output.partners}
    inputs = [
        name for name in run.flows.union.modalities if name in read | given and run.parts(name).reader is not None
    ]
    return JSONResponse(
        {
            "name": run.config.run.resolve().name,
            "version": core.__version__,
            "outputs": [{"name": name, "title": output.title} for name, output in described.items()],
            "texts": [{"name": name, "title": run.modalities[name].title} for name in _texts(model) if name in read],
            "files": [
                {"name": name, "title": run.modalities[name].title, "prompt": name in read, "condition": name in given}
                for name in inputs
            ],
            "formats": _formats(model),
            "sampler": {"steps": run.config.sampler.steps},
        }
    )


async def _submit(request: Request) -> Response:
    job = _jobs(request).submit(await read_order(request, _texts(_jobs(request).model)))
    return JSONResponse({"study": job.name}, 202)


async def _events(request: Request) -> Response:
    """Send the events of a study as they come (server-sent events). Who asks again gets them from the beginning."""
    job = _job(request)

    async def stream() -> AsyncIterator[str]:
        sent = 0
        while True:
            ended = job.ended  # before the events are read, or the last one might be missed
            for event in job.events[sent:]:
                sent += 1
                yield f"data: {json.dumps(event)}\n\n"
            if ended:
                return
            await asyncio.sleep(_PAUSE_S)

    return StreamingResponse(stream(), media_type="text/event-stream")


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
    job, format = _job(request), request.query_params.get("format") or None
    study = job.finished_study()
    folder = tempfile.TemporaryDirectory(prefix="medweave-")
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
    _job(request).cancel.set()
    return JSONResponse({})


def _jobs(request: Request) -> Jobs:
    return request.app.state.jobs


def _job(request: Request) -> Job:
    return _jobs(request).find(request.path_params["job"])


def _texts(model: Model) -> list[str]:
    """Return the modalities that are written into the page."""
    run = model.bundle.run
    return [name for name in run.flows.union.modalities if run.parts(name).data.kind == "tokens"]


def _formats(model: Model) -> list[str]:
    """Return the formats, besides the default ones, in which every output can be saved."""
    run = model.bundle.run
    of_output = [set(run.parts(name).exports) for name in model.outputs]
    formats = sorted(set.intersection(*of_output)) if of_output else []
    for format in formats:
        writers_of(run, model.outputs, format)
    return formats


def _in_url(host: str) -> str:
    """Return a host as browsers name it."""
    return f"[{host}]" if ":" in host else host


def _too_large(most: int) -> str:
    return f"the files are larger than {most // 10**6} MB together; send fewer, or start the page with --max-upload"


def _error(message: str, status: int) -> JSONResponse:
    return JSONResponse({"error": as_single_line(message)}, status)


def _wrong_input(_: Request, error: Exception) -> Response:
    return _error(str(error), 400)


def _wrong_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for them
    return _error(str(error.detail), error.status_code)
