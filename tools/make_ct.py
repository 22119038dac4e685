"""Makes the bundled model of CT with one command; stopped, the same command goes on:

    python -m tools.make_ct --scans DIR --runs RUNS

DIR holds images/ and masks/ with the scans of the AAPM Thoracic Auto-segmentation Challenge.
--without STEM leaves a scan out, and so tells how well the model does with a patient that it has
not seen. Nothing is chosen: a few scans leave none to validate on, so that the validation split is
a scan of the training split again, and the epochs are fixed.
"""

import argparse
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from jaxlung.config import load_recipe, parse_config
from jaxlung.data.ct_folder import find_volumes
from jaxlung.errors import InputError, one_line_errors
from jaxlung.system.files import write_text
from jaxlung.train.loop import train_and_evaluate

_VALIDATION, _TEST = "again_1", "again_2"  # names of the first scan as it stands there again


def join_scans(scans: Path, out: Path, without: str | None = None) -> None:
    """Links all scans but one into a folder, with splits.json.

    Raises:
        InputError: there is no scan of the name `without`, or no other one; or a scan is no single
            file.
    """
    pairs = find_volumes(scans)
    if without and without not in pairs:
        raise InputError(f"--without {without}: no such scan; there are {', '.join(pairs)}")
    held = [without] if without else []
    for path in itertools.chain(*pairs.values()):
        if path.is_dir() or path.suffix.lower() in (".mhd", ".nhdr"):
            raise InputError(f"{path}: is no single file; convert the scans to NIfTI first")
    stems = [stem for stem in pairs if stem not in held]
    if not stems:
        raise InputError(f"{scans}: holds no scan but {without}")
    for kind in ("images", "masks"):  # links of an earlier time
        shutil.rmtree(out / kind, ignore_errors=True)
    names = {stem: stem for stem in [*stems, *held]}
    names[_VALIDATION] = stems[0]
    if not held:  # no split may be empty
        names[_TEST] = stems[0]
    for name, stem in names.items():
        for kind, path in zip(("images", "masks"), pairs[stem], strict=True):
            link = out / kind / f"{name}{path.name.removeprefix(stem)}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    lists = {"train": stems, "validation": [_VALIDATION], "test": held or [_TEST]}
    write_text(out / "splits.json", json.dumps(lists))


def train(folder: Path, workdir: Path, epochs: int) -> None:
    """Trains configs/ct.py on a folder of `join_scans`, or goes on with it."""
    config = load_recipe("ct")
    config.data.update({"dir": str(folder), "split_file": str(folder / "splits.json")})
    config.data.allow_shared_images = True  # the scan that validates is one that trains
    config.train.num_epochs = epochs
    train_and_evaluate(parse_config(config), workdir)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_ct", description="Makes the bundled model of CT."
    )
    parser.add_argument("--scans", type=Path, required=True, metavar="DIR")
    parser.add_argument("--runs", type=Path, required=True, help="where trainings go")
    parser.add_argument("--without", metavar="STEM", help="a scan to leave out of training")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args(argv)
    name = f"without_{arguments.without}" if arguments.without else "ct"
    join_scans(arguments.scans, arguments.runs / f"{name}_data", arguments.without)
    train(arguments.runs / f"{name}_data", arguments.runs / name, arguments.epochs)
    print(arguments.runs / name)


if __name__ == "__main__":
    main()
