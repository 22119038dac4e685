"""Who is let in, and how much is read of a request."""

import asyncio
import gzip
import zlib

import pytest

from jaxlung.predict.batch.models import models_of
from jaxlung.view.guard import Guard
from tests.helpers import reviews
from tests.helpers.reviews import ADDRESS, PORT, TestClient


@pytest.fixture(scope="module")
def client(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("guarded")
    reviews.write_films(root / "films", 1)
    with reviews.open_client(models_of(model), [root / "films"], root / "review") as client:
        client.wait()
        yield client


@pytest.fixture
def stranger(client):
    """A client without the cookie."""
    return TestClient(client.guard, base_url=ADDRESS, follow_redirects=False)


def test_the_token_is_exchanged_at_once_for_a_cookie(client, stranger):
    answer = stranger.get(f"/?token={client.guard.token}")
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    name, _, value = cookie.partition(";")[0].partition("=")
    assert name == f"jaxlung_view_{PORT}" and value != client.guard.token
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert stranger.get("/").status_code == 200


def test_the_browsers_own_token_opens_the_page_once(client, stranger):
    guard = Guard(client.guard._app, PORT)
    once = guard.take_once()
    fresh = TestClient(guard, base_url=ADDRESS, follow_redirects=False)
    assert fresh.get(f"/?token={once}").status_code == 303
    assert TestClient(guard, base_url=ADDRESS).get(f"/?token={once}").status_code == 403


@pytest.mark.parametrize("path", ["/", "/page/index.html", "/api/review", "/report", "/nothing"])
def test_nothing_is_shown_without_the_cookie(stranger, path):
    for token in ("", "?token=", "?token=wrong", "?token=%ff"):
        answer = stranger.get(path + token)
        assert answer.status_code == 403 and list(answer.json()) == ["error"]
    stranger.cookies.set(f"jaxlung_view_{PORT}", "wrong")
    assert stranger.get(path).status_code == 403


def test_a_token_elsewhere_opens_nothing(client, stranger):
    assert stranger.get(f"/api/review?token={client.guard.token}").status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1:{PORT}@evil.example",
        f"192.168.0.7:{PORT}",
        f"127.0.0.1:{PORT}/x",
        "",
    ],
)
def test_another_host_is_refused_whatever_the_cookie(client, host):
    answer = client.http.get("/api/review", headers={"host": host})
    assert answer.status_code == 421


def test_a_server_for_others_goes_by_its_addresses_and_its_own_name(client):
    guard = Guard(client.guard._app, PORT, "0.0.0.0")
    assert guard._is_own(f"192.168.0.7:{PORT}") and guard._is_own(f"[fe80::1]:{PORT}")
    assert not guard._is_own(f"evil.example:{PORT}")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"https://127.0.0.1:{PORT}"},
        {"origin": f"http://localhost:{PORT}"},  # a page of this server, under another name
        {"x-jaxlung": "0"},
    ],
)
def test_a_change_has_to_come_from_the_servers_own_page(client, headers):
    for send in (client.http.post, client.http.put, client.http.patch):
        answer = send(f"{client.address(0)}/verdict", headers={"if-match": "0", **headers})
        assert answer.status_code == 403
    assert client.film(0)["state"] == "open"


def test_a_change_without_origin_is_refused(client):
    other = TestClient(client.guard, base_url=ADDRESS, cookies=client.http.cookies)
    assert other.post("/api/finish", headers={"x-jaxlung": "1"}).status_code == 403
    assert other.request("OPTIONS", "/api/finish").status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/review", "pixels of a film", "/nothing"])
def test_headers_keep_the_page_to_itself(client, path):
    path = f"{client.address(0)}/pixels" if path.startswith("pixels") else path
    headers = client.http.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


class Endless:
    """A body of 1 GB that counts what is read of it."""

    def __init__(self, part=b"\0" * 2**16):
        self.part, self.read = part, 0

    async def __call__(self):
        self.read += len(self.part)
        more = self.read < 2**30
        return {"type": "http.request", "body": self.part, "more_body": more}


def put(client, body, **headers):
    """Sends a mask straight to the application, which sees each part that is read."""
    sent = []
    own = {
        "host": f"127.0.0.1:{PORT}",
        "origin": ADDRESS,
        "x-jaxlung": "1",
        "if-match": "0",
        "cookie": f"{client.guard._cookie}={client.guard._secret}",
        **headers,
    }
    scope = {
        "type": "http",
        "method": "PUT",
        "path": f"{client.address(0)}/mask",
        "raw_path": f"{client.address(0)}/mask".encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in own.items()],
    }

    async def send(message):
        sent.append(message)

    asyncio.run(client.guard(scope, body, send))
    return sent[0]["status"]


def test_a_body_of_1_gb_is_refused_without_being_read(client):
    announced = Endless()
    assert put(client, announced, **{"content-length": str(2**30)}) == 413
    assert announced.read == 0
    chunked = Endless()
    assert put(client, chunked, **{"transfer-encoding": "chunked"}) == 413
    assert chunked.read <= 2**17
    lying = Endless()
    assert put(client, lying, **{"content-length": "4096"}) == 413
    assert lying.read <= 2**17


def test_a_gzip_bomb_is_not_unpacked(client, monkeypatch):
    bomb = gzip.compress(bytes(2**26))  # 64 MB in 65 kB
    unpacked = []
    make = zlib.decompressobj

    class Counting:
        def __init__(self, *args):
            self._unpack = make(*args)

        def decompress(self, data, most):
            part = self._unpack.decompress(data, most)
            unpacked.append(len(part))
            return part

        def __getattr__(self, name):
            return getattr(self._unpack, name)

    monkeypatch.setattr("jaxlung.view.guard.zlib.decompressobj", Counting)
    headers = {"content-encoding": "gzip", "transfer-encoding": "chunked"}
    body = Endless(bomb[:4096])
    assert put(client, body, **headers) == 413
    assert sum(unpacked) <= 64 * 64 + 1 and body.read <= 2**14
    assert put(client, Endless(b"no gzip"), **headers) == 400
    assert put(client, Endless(), **{"content-encoding": "br"}) == 415


def test_texts_are_bounded(client):
    for path in ("/api/reviewer", f"{client.address(0)}/verdict"):
        headers = {"if-match": "0"}
        assert client.http.post(path, content=b"x" * 9000, headers=headers).status_code == 413
        assert client.http.post(path, content=b"[" * 8000, headers=headers).status_code == 400
        assert client.http.post(path, content=b"[1]", headers=headers).status_code == 422
