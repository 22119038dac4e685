"""`jaxlung view`: its flags, and the checks before the server starts."""

import argparse
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from jaxlung.errors import InputError


def add_view_command(commands: Any) -> None:
    """Adds `view`.

    Args:
        commands: as `ArgumentParser.add_subparsers` returns them.
    """
    view = commands.add_parser(
        "view",
        help="look at masks and correct them, in the browser",
        description="Predicts the lungs of films or of CT scans and opens a page of this machine, "
        "on which each is accepted, corrected or rejected. --out then holds images/ and masks/ for "
        "`jaxlung train`. The same command goes on where it was. docs/review.md says more. Not a "
        "medical device.",
    )
    view.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="images (PNG, JPEG, TIFF, DICOM...) or CT scans, folders of them, zip archives or "
        "'globs'; - reads paths from standard input, one a line",
    )
    view.add_argument(
        "--model",
        action="append",
        metavar="MODEL",
        help="a workdir of `jaxlung train`, or a bundled model's name; several times: their mean. "
        "Default: as of `jaxlung predict`",
    )
    view.add_argument("--output", metavar="NAME", help="the structure to mark, as of predict")
    view.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="masks of the same names to compare with: large differences come first",
    )
    view.add_argument(
        "--out", type=Path, default=Path("review"), help="folder of the review (default review/)"
    )
    view.add_argument(
        "--host",
        default="127.0.0.1",
        help="to listen on; any but 127.0.0.1 lets others in, and nothing is encrypted",
    )
    view.add_argument(
        "--port", type=int, default=0, help="to listen on (default: the review's own)"
    )
    view.add_argument("--no-browser", action="store_true", help="only print the address")
    view.add_argument(
        "--show-header", action="store_true", help="show patient and study of a DICOM header"
    )
    view.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average with the mirror image's prediction (default); --no-tta: once, in less time",
    )
    view.set_defaults(run=run_view, turn=True)


def run_view(arguments: argparse.Namespace) -> None:
    """Serves the page until it is interrupted. Raises InputError before the server starts."""
    from jaxlung.view.serve import check_extra, count_states, open_review, open_socket, serve

    check_extra()
    from jaxlung.cli.predict import find_inputs, load_models, read_paths
    from jaxlung.system.files import check_out

    check_out(arguments.out)
    if arguments.masks and not arguments.masks.is_dir():
        raise InputError(f"--masks {arguments.masks}: no such folder")
    if not 0 <= arguments.port < 2**16:
        raise InputError(f"--port {arguments.port}: expected 1 to 65535, or 0 for a free one")
    paths = read_paths(arguments.paths)
    for path in paths:
        if not isinstance(path, Path):
            raise InputError(f"{path}: the page shows files of this machine; copy them here first")
    with open_socket(arguments.host, arguments.port, arguments.out) as listener:
        logging.getLogger("absl").setLevel(logging.ERROR)
        from jaxlung.system import start

        # Not all of `start_process`: memory that is freed has to go back while a server waits.
        start.collect_garbage_rarely()
        start.use_cores()
        start.enable_compile_cache()

        from jaxlung.io.passed_over import count_in_words

        models = load_models(arguments)
        passed_over = Counter[str]()
        sources = find_inputs(models, paths, arguments.out, passed_over)
        with open_review(
            models,
            sources,
            arguments.out,
            masks=arguments.masks,
            model=" + ".join(arguments.model or []),
            show_header=arguments.show_header,
        ) as review:
            if words := count_in_words(passed_over):
                print(words)
            rows, kind = review.rows, review.setup.films[0].kind
            print(f"{len(rows)} {kind}s, {count_states(rows.values())}")
            serve(review, listener, arguments.host, browser=not arguments.no_browser)
            print(f"{count_states(rows.values())}; {arguments.out}; the same command goes on")
