"""The addresses of the review page. They name a film by its id, and none holds a path."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jaxlung.errors import InputError, print_error
from jaxlung.view import handover
from jaxlung.view.films import Conflict, NotReady, Row
from jaxlung.view.guard import read_body, read_integer, read_json, read_revision, read_slice, refuse
from jaxlung.view.review import Review

_WAIT_S = 20.0  # for a film that is asked for and not predicted yet
_KINDS = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_VERDICTS = ("accept", "reject", "reopen")


def make_app(review: Review) -> Starlette:
    """Makes the application; `guard.Guard` belongs around it."""
    pages = Pages(review)
    film = "/api/films/{id}"
    routes = [
        Route("/", pages.static, name="index"),
        Route("/page/{name}", pages.static),
        Route("/api/review", pages.summary),
        Route(film, pages.film),
        Route(f"{film}/thumbnail", pages.thumbnail),
        Route(f"{film}/pixels", pages.pixels),
        Route(f"{film}/mask", pages.mask, methods=["GET"]),
        Route(f"{film}/mask", pages.save, methods=["PUT"]),
        Route(f"{film}/probability", pages.probability),
        Route(f"{film}/verdict", pages.verdict, methods=["POST"]),
        Route("/api/reviewer", pages.reviewer, methods=["POST"]),
        Route("/api/finish", pages.finish, methods=["POST"]),
        Route("/report", pages.report),
    ]
    handlers: dict[Any, Any] = {
        HTTPException: _answer(lambda e: refuse(e.status_code, e.detail)),
        InputError: _answer(lambda e: JSONResponse({"error": str(e)}, 422)),
        LookupError: _answer(lambda e: JSONResponse({"error": str(e.args[0])}, 404)),
        NotReady: _answer(
            lambda e: JSONResponse(
                {"error": "the film is being predicted; ask again"}, 503, {"retry-after": "1"}
            )
        ),
        Conflict: _answer(
            lambda e: JSONResponse(
                {"error": "another window has changed this film", "revision": e.revision}, 409
            )
        ),
        OSError: _answer(_disk_error),
        ClientDisconnect: _answer(lambda e: Response(status_code=400)),
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _answer(make: Callable[[Any], Response]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_: Request, error: Exception) -> Response:
        return make(error)

    return handle


def _disk_error(error: OSError) -> Response:
    """Answers where nothing can be saved: the page keeps what was drawn, and sends it again."""
    print_error(f"{error.filename}: {error.strerror}" if error.filename else error)
    return JSONResponse({"error": f"the review folder: {error.strerror or 'cannot be used'}"}, 507)


class Pages:
    """Answers the requests that the guard has let in."""

    def __init__(self, review: Review):
        self.review = review
        folders = resources.files("jaxlung.screen"), resources.files("jaxlung.view") / "page"
        # Read once: a fixed list of names, whatever an address says.
        self._files = {
            file.name: (file.read_bytes(), kind)
            for folder in folders
            for file in folder.iterdir()
            if (kind := _KINDS.get("." + file.name.rpartition(".")[2]))
        }

    async def static(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._files:
            raise HTTPException(404, "there is no such page")
        content, kind = self._files[name]
        return Response(content, media_type=kind)

    async def summary(self, request: Request) -> Response:
        since = read_integer(request.query_params.get("since"), "since")
        about = await run_in_threadpool(self.review.summarise, since)
        return JSONResponse(about)

    async def film(self, request: Request) -> Response:
        film_id = self._id(request)
        with self.review.worker.request():
            if not self.review.films[film_id].source.is_volume:  # a scan is shown meanwhile
                await self._wait(film_id)
            else:
                self.review.ask(film_id)
            about = await run_in_threadpool(self.review.describe, film_id)
        asyncio.get_running_loop().run_in_executor(None, self._read_ahead, film_id)
        return JSONResponse(about)

    def _read_ahead(self, film_id: str) -> None:
        try:
            self.review.read_ahead(film_id)
        except InputError:
            pass  # it is said when the film's turn comes

    async def thumbnail(self, request: Request) -> Response:
        path = self.review.store.thumbnail(self.review.films[self._id(request)])
        try:
            return Response(await run_in_threadpool(path.read_bytes), media_type="image/jpeg")
        except FileNotFoundError:
            raise HTTPException(404, "there is no thumbnail yet") from None

    async def pixels(self, request: Request) -> Response:
        film_id, z = self._id(request), read_slice(request)
        with self.review.worker.request():
            shown = await run_in_threadpool(self.review.show, film_id, z)
        pixels = shown.pixels_HxW
        return _bytes(pixels if shown.bits == 8 else pixels.astype("<u2", copy=False))

    async def mask(self, request: Request) -> Response:
        film_id, z = self._id(request), read_slice(request)
        which = request.query_params.get("which", "current")
        if which not in ("current", "first", "given"):
            raise HTTPException(400, "which is current, first or given")
        with self.review.worker.request():
            await self._wait(film_id)
            labels, revision = await run_in_threadpool(self.review.mask, film_id, z, which)
        return _bytes(labels, {"x-revision": str(revision)})

    async def probability(self, request: Request) -> Response:
        film_id, z = self._id(request), read_slice(request)
        with self.review.worker.request():
            await self._wait(film_id)
            found = await run_in_threadpool(self.review.probability, film_id, z)
        return _bytes(found)

    async def save(self, request: Request) -> Response:
        film_id, z, revision = self._id(request), read_slice(request), read_revision(request)
        row = self.review.rows[film_id]
        if not row.ready:
            raise NotReady
        if row.error:
            raise InputError(row.error)
        body = await read_body(request, row.height * row.width)
        mask = np.frombuffer(body, np.uint8)
        if mask.size != row.height * row.width or mask.max() > 1:
            raise HTTPException(
                422, f"a mask of this film has {row.height}x{row.width} bytes of 0 and 1"
            )
        mask_HxW = mask.reshape(row.height, row.width) == 1
        with self.review.worker.request():
            row = await run_in_threadpool(self.review.save, film_id, z, mask_HxW, revision)
        return _changed(row)

    async def verdict(self, request: Request) -> Response:
        film_id, revision = self._id(request), read_revision(request)
        values = await read_json(request)
        verdict, reason = values.get("verdict"), values.get("reason") or ""
        if verdict not in _VERDICTS or not isinstance(reason, str):
            raise HTTPException(422, "a verdict is accept, reject or reopen, and its reason a text")
        with self.review.worker.request():
            row = await run_in_threadpool(self.review.judge, film_id, verdict, reason, revision)
        return _changed(row)

    async def reviewer(self, request: Request) -> Response:
        name = (await read_json(request)).get("name")
        if not isinstance(name, str):
            raise HTTPException(422, "a name is a text")
        return JSONResponse({"reviewer": await run_in_threadpool(self.review.name_reviewer, name)})

    async def finish(self, request: Request) -> Response:
        with self.review.worker.request():
            return JSONResponse(await run_in_threadpool(handover.finish, self.review))

    async def report(self, request: Request) -> Response:
        path = self.review.store.out / "report" / "report.html"
        try:
            page = await run_in_threadpool(path.read_bytes)
        except FileNotFoundError:
            raise HTTPException(404, "there is no report yet; finish the review first") from None
        # The report has its style and a script inside; they are named by their digests.
        scripts = re.findall(rb"<script>(.*?)</script>", page, re.S)
        hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
        policy = (
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            f"script-src {hashes or repr('none')}; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors 'none'"
        )
        return Response(page, media_type="text/html", headers={"content-security-policy": policy})

    def _id(self, request: Request) -> str:
        film_id: str = request.path_params["id"]
        if film_id not in self.review.films:
            raise HTTPException(404, "there is no such film")
        return film_id

    async def _wait(self, film_id: str) -> None:
        """Waits for a film's prediction, which is put before all others."""
        self.review.ask(film_id)
        for _ in range(int(_WAIT_S / 0.02)):
            if self.review.rows[film_id].ready:
                return
            await asyncio.sleep(0.02)
        raise NotReady


def _bytes(array: np.ndarray, headers: dict[str, str] | None = None) -> Response:
    return Response(array.tobytes(), media_type="application/octet-stream", headers=headers)


def _changed(row: Row) -> Response:
    return JSONResponse({"revision": row.revision, "state": row.state})


def _digest(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
