"""Lets in only the person who started the server: token, cookie, Host, Origin, sizes, headers.

A page of another site may send requests to 127.0.0.1, and may give its own name that address (DNS
rebinding). So the cookie alone is not enough: Host has to be this server, and what changes
something has to come from its own page.
"""

import ipaddress
import json
import re
import secrets
import socket
import zlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxlung.io.film import MOST_PIXELS

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_JSON_BYTES = 8192  # of a body
_MARGIN = 4096  # bytes that gzip may add
_SAFE = ("GET", "HEAD")


class Guard:
    """Wraps the application; a refused request never reaches it."""

    def __init__(self, app: ASGIApp, port: int, host: str = "127.0.0.1", secret: str | None = None):
        """Draws the tokens anew at each start.

        Args:
            port: that the server listens on.
            host: that it listens on, as of --host.
            secret: of the cookie; None draws one. With the same one at each start, a page that
                stayed open goes on, and sends what waits in it.
        """
        self._app, self._port, self._host = app, port, host
        self.token = secrets.token_urlsafe(32)
        # For the browser that is started here: whoever sees it among the processes comes too late.
        self._once = {secrets.token_urlsafe(32)}
        self._cookie = f"jaxlung_view_{port}"
        self._secret = secret or secrets.token_urlsafe(32)

    def take_once(self) -> str:
        """Returns a token that opens the page a single time."""
        return next(iter(self._once))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] != "http":  # no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._refuse_or_admit(scope)
        await (answer or self._app)(scope, receive, send_guarded)

    def _refuse_or_admit(self, scope: Scope) -> Response | None:
        """Returns an answer, or None where the request may pass."""
        headers, method = Headers(scope=scope), scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return refuse(421, "this server goes by another name; open the address it printed")
        origins = headers.getlist("origin")
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return refuse(403, "the request comes from another page")
        if method not in _SAFE and (len(origins) != 1 or headers.get("x-jaxlung") != "1"):
            return refuse(403, "the request does not come from the review page")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["path"] == "/" and method == "GET" and "token" in query:
            return self._exchange(query["token"][0])
        if not self._has_cookie(headers):
            return refuse(403, "open the address that jaxlung view printed, with its token")
        return None

    def _is_own(self, host: str) -> bool:
        """Says whether a Host header names this server: no name that others can register."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if port != self._port or parts.path or "@" in host:
            return False
        if name in ("localhost", "127.0.0.1", "::1", self._host.lower()):
            return True
        if is_loopback(self._host):
            return False
        # All addresses of this machine: an address cannot be rebound, and its name is our own.
        own = {socket.gethostname().lower(), socket.getfqdn().lower()}
        return is_address(name) or name in own

    def _exchange(self, token: str) -> Response:
        if _is_any(token, self._once):
            self._once.clear()
        elif not _is_any(token, [self.token]):
            return refuse(403, "the token is wrong; open the address that jaxlung view printed")
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict", path="/")
        return answer

    def _has_cookie(self, headers: Headers) -> bool:
        pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        given = [value for name, _, value in pairs if name == self._cookie]
        return any(_is_any(value, [self._secret]) for value in given)


def _is_any(given: str, secrets_: Iterable[str]) -> bool:
    """Compares in constant time."""
    return any(secrets.compare_digest(given.encode(), secret.encode()) for secret in secrets_)


def is_loopback(host: str) -> bool:
    """Says whether only this machine can reach a host."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Says whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def refuse(status: int, error: str) -> JSONResponse:
    """Makes the answer to what is refused; the connection ends, whatever was still to come."""
    return JSONResponse({"error": error}, status, headers={"connection": "close"})


async def read_body(request: Request, size: int) -> bytes:
    """Reads a body of at most so many bytes, unpacked if it is gzip, and not a byte more.

    Raises:
        HTTPException: it is larger (what was announced is not read), or damaged.
    """
    if size > MOST_PIXELS:
        raise HTTPException(413, "the body is too large")
    is_gzip = request.headers.get("content-encoding", "identity") == "gzip"
    if not is_gzip and request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "a body is plain or gzip")
    most = size + _MARGIN if is_gzip else size
    announced = request.headers.get("content-length")
    if announced is not None and not (announced.isdigit() and int(announced) <= most):
        raise HTTPException(413, "the body is too large")
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    parts, sent, length = [], 0, 0
    async for chunk in request.stream():
        sent += len(chunk)
        if sent > most:
            raise HTTPException(413, "the body is too large")
        if is_gzip and chunk:
            try:
                chunk = unpack.decompress(chunk, size + 1 - length)
            except zlib.error as error:
                raise HTTPException(400, "the body is damaged gzip") from error
        length += len(chunk)
        if length > size or (is_gzip and unpack.unconsumed_tail):
            raise HTTPException(413, "the body is too large")
        parts.append(chunk)
    return b"".join(parts)


async def read_json(request: Request) -> dict[str, Any]:
    body = await read_body(request, _JSON_BYTES)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    if not isinstance(values, dict):
        raise HTTPException(422, "the body is not a JSON object")
    return values


def read_revision(request: Request) -> int:
    given = request.headers.get("if-match", "").strip('"')
    if not given:
        raise HTTPException(428, "If-Match with the film's revision is needed")
    revision = read_integer(given, "If-Match")
    assert revision is not None
    return revision


def read_slice(request: Request) -> int:
    return read_integer(request.query_params.get("slice"), "slice") or 0


def read_integer(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,15}", text):
        raise HTTPException(400, f"{name} is a whole number")
    return int(text)
