"""Opens a review and serves its page; says where it is, and tells the browser."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import webbrowser
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxlung.errors import InputError, print_warning

if TYPE_CHECKING:
    from jaxlung.predict.batch.models import Models
    from jaxlung.predict.batch.sources import Source
    from jaxlung.view.films import Row
    from jaxlung.view.review import Review

_EXTRA = 'jaxlung view needs starlette and uvicorn: pip install "jaxlung[view]"'


def check_extra() -> None:
    """Raises InputError that names the extra where a package is missing."""
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise InputError(_EXTRA) from error
    del starlette, uvicorn


@contextlib.contextmanager
def open_review(
    models: Models,
    sources: Sequence[Source],
    out: Path,
    *,
    masks: Path | None = None,
    model: str = "",
    show_header: bool = False,
) -> Iterator[Review]:
    """Opens a review in a folder, or goes on with the one that is there, and holds the folder.

    Args:
        sources: the films or the scans.
        masks: a folder of masks to compare with.
        model: its name as the user wrote it; "": the name of the one that is taken.

    Raises:
        InputError: films and scans are mixed, the folder holds another review, another server has
            it, or `masks` holds none of these films'.
    """
    from jaxlung.system.digests import digest_weights
    from jaxlung.view.films import name_films
    from jaxlung.view.reading import Setup, find_given
    from jaxlung.view.review import Review
    from jaxlung.view.store import Store, check_films, check_same, hold, read_review

    scans = sum(source.is_volume for source in sources)
    if 0 < scans < len(sources):
        raise InputError(
            f"{len(sources) - scans} films and {scans} CT scans: a review is of one kind, as one "
            f"model learns from it; name the ones or the others, as by a 'glob'"
        )
    if masks and not masks.is_dir():
        raise InputError(f"--masks {masks}: no such folder")
    with hold(out):  # before anything is read: another server may be writing it
        stored = read_review(out)
        films = name_films(sources, stored.get("films", {}))
        setup = Setup(models, films, {}, {}, masks)
        used = setup.model
        settings = {
            "kind": "scan" if scans else "film",
            "output": used.output,
            "model": model or str(used.workdir),
            "weights_sha256": digest_weights(used.variables),
            "tta": used.tta,
            "turn": used.turn,
        }
        check_same(out, stored, settings)
        check_films(out, stored, films)
        setup = setup._replace(
            settings=settings,
            given=find_given(masks, films),
            reviewer=stored.get("reviewer"),
            show_header=show_header,
        )
        yield Review(setup, Store(out, volumes=bool(scans), convention=used.output))


def choose_port(out: Path) -> int:
    """Returns a review's own port. What a browser has kept unsent belongs to host and port."""
    digest = hashlib.blake2b(str(out.resolve()).encode(errors="surrogateescape"), digest_size=4)
    return 20000 + int.from_bytes(digest.digest(), "big") % 10000  # below those given to clients


def open_socket(host: str, port: int, out: Path | None = None) -> socket.socket:
    """Listens on a port; 0: that of the review in `out`, or any that is free.

    Raises:
        InputError: the host is not of this machine, or the port is taken.
    """
    if port == 0 and out is not None:
        with contextlib.suppress(InputError):  # it is taken
            return open_socket(host, choose_port(out))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows two servers would share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # or another server could still take the port
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"--host {host} --port {port}: cannot be listened on ({reason}); name another one, or "
            f"leave --port out for a free one"
        ) from error
    return listener


def serve(review: Review, listener: socket.socket, host: str, *, browser: bool) -> None:
    """Serves the page until it is interrupted. Prints its address, and opens it in the browser."""
    import uvicorn

    from jaxlung.view.app import make_app
    from jaxlung.view.guard import Guard, is_loopback

    port = listener.getsockname()[1]
    guard = Guard(make_app(review), port, host, review.store.derive(f"cookie {port}"))
    config: Any = uvicorn.Config(
        guard,
        log_level="warning",
        access_log=False,  # its lines would hold the token
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        limit_concurrency=200,
    )
    server = uvicorn.Server(config)
    if not is_loopback(host):
        print_warning(
            f"--host {host}: others can reach this server, and nothing is encrypted on the way"
        )
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    address = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
    print(f"{address}?token={guard.token}", flush=True)
    if browser:
        opened = f"{address}?token={guard.take_once()}"
        threading.Thread(target=_open_browser, args=(opened,), daemon=True).start()
    review.worker.start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        review.worker.stop()


def _open_browser(address: str) -> None:
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(address)


def count_states(rows: Collection[Row]) -> str:
    """Counts in words how far a review has come."""
    looked_at = sum(row.state != "open" for row in rows)
    return f"{looked_at} of {len(rows)} looked at"
