"""The `jaxlung` command."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlung.data_cli import add_data_commands
from jaxlung.errors import InputError, one_line_errors, print_error


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jaxlung", description="Finds the lungs in chest X-rays.")
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser(
        "predict",
        help="draw the lungs of images",
        description="For each image writes STEM.png, the mask at the image's own size (255 is "
        "lung), and STEM_overlay.png, the image with the mask's outline. With a model of CT, for "
        "each NIfTI file or folder of a DICOM series, STEM.nii.gz on the scan's own grid (1 is "
        "lung), and STEM_overlay.png with some slices.",
    )
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    predict.add_argument(
        "--model", "--workdir", default="cxr", metavar="MODEL",
        help="a workdir of train.py, or a bundled model's name (default cxr: frontal chest X-rays)",
    )  # fmt: skip
    predict.add_argument("--out", required=True, type=Path, help="folder for masks and overlays")
    predict.add_argument(
        "--tta", action="store_true",
        help="average with the mirror image's prediction, in twice the time: see docs/results.md",
    )  # fmt: skip
    predict.add_argument("--overwrite", action="store_true", help="replace earlier outputs")
    score = commands.add_parser(
        "score",
        help="compare masks of any tool with true masks",
        description="Matches the masks of two folders by file name (less _mask at its end), and "
        "writes report.html, metrics.json and per_image.csv. An image without a mask in --pred "
        "counts as a failure. docs/evaluation.md says what is measured.",
    )
    score.add_argument("--pred", required=True, type=Path, help="folder of masks to score")
    score.add_argument("--truth", required=True, type=Path, help="folder of true masks")
    score.add_argument("--out", required=True, type=Path, help="folder for the report")
    score.add_argument("--images", type=Path, help="folder of the X-rays, to draw outlines on")
    score.add_argument(
        "--metadata", type=Path,
        help="CSV with the column id, and any of patient, spacing_mm and subgroups; default: "
        "metadata.csv beside the folder of true masks, if it is there",
    )  # fmt: skip
    score.add_argument(
        "--sides", action="store_true",
        help="masks hold 1 for the patient's right lung and 2 for the left one",
    )  # fmt: skip
    score.add_argument(
        "--spacing-mm", type=float, help="side of a pixel of every image, whatever the metadata say"
    )
    score.add_argument("--tolerance-px", type=float, default=2.0, help="of NSD (default 2)")
    score.add_argument("--tolerance-mm", type=float, default=2.0, help="of NSD (default 2)")
    score.add_argument("--overwrite", action="store_true", help="replace an earlier report")
    add_data_commands(commands)
    arguments = parser.parse_args(argv)
    if arguments.command == "data":
        arguments.run(arguments)
        return
    if arguments.command == "score":
        score_folders(arguments)
        return
    failed = predict_files(
        arguments.images, arguments.model, arguments.out, tta=arguments.tta,
        overwrite=arguments.overwrite,
    )  # fmt: skip
    if failed:
        raise SystemExit(1)


def score_folders(arguments: argparse.Namespace) -> None:
    from jaxlung.mask_scores import score
    from jaxlung.scoring import Tolerance

    score(
        arguments.pred,
        arguments.truth,
        arguments.out,
        images=arguments.images,
        metadata=arguments.metadata,
        sides=arguments.sides,
        spacing_mm=arguments.spacing_mm,
        tolerance=Tolerance(arguments.tolerance_px, arguments.tolerance_mm),
        overwrite=arguments.overwrite,
    )


def predict_files(
    images: Sequence[Path], model: str, out: Path, *, tta: bool = False, overwrite: bool = False
) -> int:
    """Writes mask and overlay of each image; a bad file is reported and the others go on.

    Returns:
        how many files failed.

    Raises:
        InputError: before anything is written: no such model, two images that would write the
            same file, or an output that exists (unless overwrite).
    """
    outputs = plan_outputs(images, out, overwrite=overwrite)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every file it opens
    from jaxlung import compile_cache, cpu

    cpu.collect_garbage_seldom()
    cpu.keep_freed_memory()
    cpu.use_cores()
    compile_cache.enable()

    from jaxlung.predict import load

    predictor = load(model, tta=tta)
    write = _write_volume if predictor.config.modality == "ct" else _write_image
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for image_path, mask_path, overlay_path in outputs:
        try:
            share = write(predictor, image_path, mask_path, overlay_path)
        except InputError as error:
            message = str(error)
            named = message if message.startswith(str(image_path)) else f"{image_path}: {message}"
            print_error(named)
            failed += 1
            continue
        note = "" if share else " (EMPTY: no lung found)"
        print(f"{image_path} -> {mask_path}, {share:.1%} lung{note}")
    return failed


def _write_image(model: Any, image_path: Path, mask_path: Path, overlay_path: Path) -> float:
    """Mask and overlay of an X-ray; returns the share of lung."""
    from jaxlung.ct import is_volume
    from jaxlung.figures import overlay
    from jaxlung.film import check_xray
    from jaxlung.images import read_film, write_png

    if is_volume(image_path):
        if image_path.is_dir():
            raise InputError(f"{image_path}: is a folder; name its files, as {image_path}/*.png")
        raise InputError(f"{image_path}: is a volume, but the model was trained on X-rays")
    film = read_film(image_path)
    check_xray(film.modality, image_path)
    mask_HxW = model.predict(film.image)
    write_png(mask_path, mask_HxW.astype("uint8") * 255)
    write_png(overlay_path, overlay(film.image, mask_HxW))
    return float(mask_HxW.mean())


def _write_volume(model: Any, path: Path, mask_path: Path, overlay_path: Path) -> float:
    """Mask of a CT on its own grid, and pictures of slices; returns the share of lung."""
    from jaxlung.ct import is_volume, write_mask
    from jaxlung.ct_predict import picture, predict_volume
    from jaxlung.images import write_png

    if not is_volume(path):
        raise InputError(
            f"{path}: is a single image, but the model was trained on CT volumes; name a NIfTI "
            f"file or the folder of a DICOM series"
        )
    mask_ZxHxW, volume = predict_volume(model, path)
    write_mask(mask_path, mask_ZxHxW, volume.grid)
    write_png(overlay_path, picture(model, mask_ZxHxW, volume))
    return float(mask_ZxHxW.mean())


def plan_outputs(
    images: Sequence[Path], out: Path, *, overwrite: bool
) -> list[tuple[Path, Path, Path]]:
    """(image, mask, overlay) paths, refusing every clash; see `predict_files`."""
    from jaxlung.ct import is_volume, volume_stem
    from jaxlung.folder import stem_of

    plan: list[tuple[Path, Path, Path]] = []
    owner: dict[Path, Path] = {}
    inputs = {image.resolve() for image in images}
    for image in images:
        if is_volume(image):
            stem, suffix = volume_stem(image), ".nii.gz"
        else:
            stem, suffix = stem_of(image), ".png"
        targets = (out / f"{stem}{suffix}", out / f"{stem}_overlay.png")
        for target in targets:
            if target in owner:
                raise InputError(
                    f"{image} and {owner[target]} would both write {target}; use two --out folders"
                )
            owner[target] = image
            if target.resolve() in inputs:
                raise InputError(f"{target} is an input image; name another --out folder")
            if target.exists() and not overwrite:
                raise InputError(f"{target} exists; name another --out folder or pass --overwrite")
        plan.append((image, *targets))
    return plan
