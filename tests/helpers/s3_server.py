"""moto's S3 server on this machine, with authentication, and a proxy that makes a bucket full."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

_SETTING_UP = 4  # requests that need no key: they make the user, its policy, its key, the bucket
BUCKET = "films-of-the-test"

# Port 0 is moto's to choose; the line of its log that tells it is werkzeug's.
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class Server(NamedTuple):
    """Where it listens, and a user's key."""

    port: int
    key: str
    secret: str

    def environ(self, port: int = 0) -> dict[str, str]:
        """What a command needs to find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Starts the server, makes a user of all rights and an empty bucket."""
    environ = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(_SETTING_UP)}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ,
        text=True,
    )
    try:
        port = int(process.stdout.readline())
        _iam(port, Action="CreateUser", UserName="lungs")
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
        }
        _iam(
            port,
            Action="PutUserPolicy",
            UserName="lungs",
            PolicyName="all",
            PolicyDocument=json.dumps(policy),
        )
        made = _iam(port, Action="CreateAccessKey", UserName="lungs")
        key, secret = (
            made.partition(f"<{name}>")[2].partition("<")[0]
            for name in ("AccessKeyId", "SecretAccessKey")
        )
        _request(port, "PUT", f"/{BUCKET}", "", "s3")
        yield Server(port, key, secret)
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(20)
        process.stdout.close()


def _iam(port: int, **fields: str) -> str:
    from urllib.parse import urlencode

    return _request(port, "POST", "/", urlencode({**fields, "Version": "2010-05-08"}), "iam")


def _request(port: int, method: str, path: str, body: str, service: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    scope = f"Credential=none/20260101/us-east-1/{service}/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    assert reply.status == 200, text
    return text


class Full:
    """A proxy before the server, whose bucket takes a number of objects more, and is then full."""

    def __init__(self, server: Server, left: int, status: int = 507, code: str = "QuotaExceeded"):
        self.left, self.status, self.code = left, status, code
        self._server, self._lock = server, threading.Lock()

    def takes(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left >= 0

    @contextlib.contextmanager
    def serve(self) -> Iterator[int]:
        """Yields the port."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(size)
                if self.command == "PUT" and not proxy.takes():
                    text = f"<Error><Code>{proxy.code}</Code><Message>no</Message></Error>"
                    self._answer(proxy.status, {"Content-Type": "application/xml"}, text.encode())
                    return
                server = http.client.HTTPConnection("127.0.0.1", proxy._server.port, timeout=60)
                server.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    server.putheader(name, value)
                server.endheaders(body)
                reply = server.getresponse()
                content = reply.read()
                kept = {
                    name: value
                    for name, value in reply.getheaders()
                    if name.lower() not in ("transfer-encoding", "connection")
                }
                server.close()
                self._answer(reply.status, kept, content)

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                if self.command != "HEAD":
                    headers = {**headers, "Content-Length": str(len(body))}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

            def log_message(self, *_) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                server.shutdown()
                thread.join()


def wait_until(condition, seconds: float = 120) -> None:
    """Waits for what another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)
