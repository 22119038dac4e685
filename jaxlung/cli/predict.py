"""`jaxlung predict` and `jaxlung join`: their flags, and the start-up before the work."""

import argparse
import functools
import io
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxlung.errors import InputError, explain_os_error
from jaxlung.predict.batch.formats import IMAGE_FORMATS

if TYPE_CHECKING:
    from jaxlung.predict.batch.models import Models
    from jaxlung.predict.batch.run import Engine
    from jaxlung.predict.batch.sources import Source
    from jaxlung.predict.buckets.output import Bucket
    from jaxlung.system.processes import Share
    from jaxlung.system.urls import Url

_GO_ON = "the same command with --resume goes on"


def add_predict_command(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="draw the lungs of images",
        description="For each image writes NAME.png, the mask at the image's own size (255 is "
        "lung), and NAME_overlay.png, the image with the mask's outline; for each CT scan (NIfTI, "
        "MetaImage, NRRD, or the folder of a DICOM series) NAME.nii.gz on the scan's own grid (1 "
        "is lung), and NAME_overlay.png with some slices. summary.csv and summary.json have a row "
        "for each image. docs/predict.md says more. Not a medical device.",
    )
    predict.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="images (PNG, JPEG, TIFF, DICOM...), folders of them, zip archives, 'globs' or URLs "
        "(s3://, gs://, az://, hdfs://...); - reads paths from standard input, one a line",
    )
    predict.add_argument(
        "--model",
        "--workdir",
        action="append",
        metavar="MODEL",
        help="a workdir of `jaxlung train`, or a bundled model's name; several times: their mean. "
        "Default: the bundled model of chest X-rays for these, and that of CT, ct, for scans and "
        "pictures of CT slices",
    )
    predict.add_argument(
        "--output",
        metavar="NAME",
        help="the structure to mark, one of the model's outputs, as in lung or lung_and_heart "
        "(default lung, where the model has it)",
    )
    predict.add_argument(
        "--out", required=True, metavar="OUT", help="folder or URL for what is written"
    )
    predict.add_argument(
        "--sides",
        action="store_true",
        help="masks hold 1 for the patient's right lung and 2 for the left one",
    )
    predict.add_argument(
        "--probabilities",
        action="store_true",
        help="also NAME_probability.png, 16 bits, 65535 is 1 (of CT .nii.gz, floats)",
    )
    predict.add_argument(
        "--slices",
        action="store_true",
        help="also NAME_slices.csv of CT scans: the lungs' area and mean density in each slice",
    )
    predict.add_argument(
        "--resample",
        action="store_true",
        help="CT scans of a tilted gantry: move their slices to a grid at right angles, which ITK "
        "reads, for the mask and for NAME_resampled.nii.gz, the scan on that grid",
    )
    predict.add_argument("--no-overlay", action="store_true", help="no pictures of outlines")
    predict.add_argument(
        "--format",
        choices=tuple(IMAGE_FORMATS),
        default="png",
        help="of masks: png (of scans .nii.gz), nii (.nii.gz of X-rays too), seg-nrrd (segments of "
        "3D Slicer; extra seg-nrrd), dicom-seg (of DICOM images; extra dicom-seg)",
    )
    predict.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average with the mirror image's prediction (default); --no-tta: once, in less time",
    )
    predict.add_argument(
        "--turn",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="turn X-rays that are surely rotated by 90, 180 or 270 degrees upright, and their "
        "masks back (default); --no-turn: only warn of them",
    )
    predict.add_argument(
        "--strict",
        action="store_true",
        help="refuse what would be warned of: inverted, rotated, no chest X-ray...",
    )
    predict.add_argument(
        "--share",
        metavar="I/N",
        help="every Nth image from the Ith on, as one of N processes; each writes a folder of its "
        "own below --out, and `jaxlung join` unites them. Default: all images, or the task's share "
        "in a Slurm step of several tasks",
    )
    predict.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="predict on a cluster of Ray (HOST:PORT of its head, or auto), or without ADDRESS by "
        "Ray on this machine; give it after the paths (extra ray)",
    )
    again = predict.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="skip what is done already")
    again.add_argument("--overwrite", action="store_true", help="replace earlier outputs")
    predict.set_defaults(run=predict_command)
    join = commands.add_parser(
        "join",
        help="unite the shares of a batch of `jaxlung predict --share`",
        description="Moves the masks of all shares into the folder that was their --out, and their "
        "rows into one summary.csv and summary.json. Interrupted, it may be given again. Exit "
        "status: 1 if an image has failed, 2 if a share is missing or not finished.",
    )
    join.add_argument("out", type=Path, metavar="OUT", help="the --out folder of the shares")
    join.set_defaults(run=join_command)


def join_command(arguments: argparse.Namespace) -> None:
    """Raises SystemExit 1 where an image failed, InputError before any work."""
    from jaxlung.predict.batch.shares import join

    if join(arguments.out):
        raise SystemExit(1)


def load_models(arguments: argparse.Namespace) -> "Models":
    """Loads the models that are named, or the bundled ones: of X-rays, and of CT."""
    from jaxlung.predict.batch.models import Models, models_of
    from jaxlung.predict.load import load
    from jaxlung.weights import bundled

    load_one = functools.partial(load, tta=arguments.tta, turn=arguments.turn)
    if named := arguments.model:
        model = load_one(named if len(named) > 1 else named[0])
        return models_of(model.for_output(arguments.output))
    xray, ct = load_one(bundled.DEFAULT).for_output(arguments.output), load_one(bundled.CT)
    return Models(xray, ct if xray.output in ct.config.model.outputs else None)


def read_paths(names: Sequence[str]) -> "list[Path | Url]":
    """Reads the paths and URLs that a command was given; - stands for those on standard input.

    Raises:
        InputError: a path is empty, or there is none; or a URL holds credentials.
    """
    from jaxlung.predict.batch.sources import read_list
    from jaxlung.predict.buckets.stores import read_place

    if "" in names:
        raise InputError("an empty path names no image; is a variable not set?")
    paths: list[Path | Url] = []
    for name in names:
        listed = read_list(sys.stdin.buffer.read(), "standard input") if name == "-" else [name]
        paths += map(read_place, listed)
    if not paths:
        raise InputError("standard input names no image; give a path on each line")
    return paths


def find_inputs(
    models: "Models", paths: "Sequence[Path | Url]", out: "Path | Url", passed_over: Counter[str]
) -> "list[Source]":
    """Finds what the models can predict: images, and with a model of CT scans too.

    Raises: as `find_sources`.
    """
    from jaxlung.predict.batch.modality import find_images_and_volumes
    from jaxlung.predict.batch.sources import find_sources

    here = [path for path in paths if isinstance(path, Path)]
    urls = [path for path in paths if not isinstance(path, Path)]
    but_not = out if isinstance(out, Path) else None
    if models.ct:
        sources = find_images_and_volumes(here, but_not=but_not, passed_over=passed_over)
    else:
        sources = find_sources(here, volumes=False, but_not=but_not, passed_over=passed_over)
    if urls:
        from jaxlung.predict.buckets.objects import find_objects

        sources += find_objects(
            urls, volumes=bool(models.ct), but_not=str(out), passed_over=passed_over
        )
    return sources


def predict_command(arguments: argparse.Namespace) -> None:
    """Raises SystemExit 1 where an image failed, InputError before any work."""
    IMAGE_FORMATS[arguments.format].check_extra()
    if arguments.resample and arguments.format == "dicom-seg":
        raise InputError(
            "--resample makes slices of its own, to which no DICOM Segmentation can refer; leave "
            "it out, as a Segmentation holds each slice's own place"
        )
    from jaxlung.predict.buckets.output import open_out
    from jaxlung.predict.buckets.stores import read_place
    from jaxlung.system.processes import find_share

    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold any bytes
        sys.stdout.reconfigure(errors="surrogateescape")
    out = read_place(arguments.out)
    share = find_share(arguments.share)
    if share and not isinstance(out, Path):
        raise InputError(f"{out}: shares need a folder; give --out a folder that all see")
    engine = None if arguments.ray is None else _choose_ray(arguments.ray)
    if share and engine:
        raise InputError("--share divides the films by hand, and --ray by itself; give one of them")
    paths = read_paths(arguments.paths)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every file it opens
    from jaxlung.system.start import start_process

    start_process()

    try:
        with open_out(out) as (folder, bucket):
            failed = _predict(arguments, paths, out, folder, bucket, share, engine)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {_GO_ON}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"{out}: cannot go on ({explain_os_error(error)}); {_GO_ON}") from error
    if failed:
        raise SystemExit(1)


def _predict(
    arguments: argparse.Namespace,
    paths: "Sequence[Path | Url]",
    out: "Path | Url",
    folder: Path,
    bucket: "Bucket | None",
    share: "Share | None",
    engine: "Engine | None",
) -> int:
    """Predicts into a folder, which is moved to the bucket bit by bit; returns how many failed."""
    from jaxlung.predict.batch.outputs import Options
    from jaxlung.predict.batch.run import run_batch

    models = load_models(arguments)
    output = models.known[0].output
    if arguments.sides and output != "lung":
        raise InputError(f"--sides tells two lungs apart, not {output}; leave it out")
    passed_over = Counter[str]()
    sources = find_inputs(models, paths, out, passed_over)
    named = [Path(one).name for one in arguments.model or []]
    options = Options(
        out=folder,
        sides=arguments.sides,
        overlay=not arguments.no_overlay,
        probabilities=arguments.probabilities,
        slices=arguments.slices,
        resample=arguments.resample,
        model="+".join(named),
        output=output,
        format=arguments.format,
        strict=arguments.strict,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        share=share,
        parquet=engine is not None,
        bucket=bucket,
    )
    return run_batch(models, sources, options, passed_over, engine)


def _choose_ray(address: str) -> "Engine":
    """Checks that Ray is there, and returns what predicts on it. Raises InputError."""
    import jax

    from jaxlung.predict.cluster.pipeline import predict_on_ray
    from jaxlung.predict.cluster.session import check_address

    check_address(address)
    jax.config.update("jax_platforms", "cpu")  # the GPUs are the workers'
    return functools.partial(predict_on_ray, address=address)
