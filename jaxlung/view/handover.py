"""Ends a review: makes the report of what was corrected, and the command that learns from it."""

import hashlib
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxlung.config import Config, load_recipe, parse_config
from jaxlung.config.settings import ModelConfig
from jaxlung.data.splitting import split_by_hash
from jaxlung.evaluation.mask_scores import score
from jaxlung.view.reading import Setup
from jaxlung.view.review import Review
from jaxlung.view.store import link_or_copy

WORKDIR = "runs/corrected"
_RATE = 2e-4  # a tenth of the recipes': small steps from what the model knows
_LEAST = 3  # patients: one each to train, to validate and to test


def finish(review: Review) -> dict[str, Any]:
    """Writes the report of corrected against first masks; returns what the page shows at the end.

    Raises: as `score`.
    """
    with review.finishing:
        return _finish(review)


def _finish(review: Review) -> dict[str, Any]:
    out = review.store.out
    # What is compared: names of its own for the files, since others may be saved meanwhile.
    compared = out / "view" / "compared"
    with review.lock:
        rows = review.list_rows()
        review.store.write_tables(rows)
        trains = [(film, row) for film, row in rows if row.trains]
        states = Counter(
            "unreadable" if row.error and row.state == "open" else row.state for _, row in rows
        )
        left_out = sum(row.state in ("accepted", "corrected") and not row.usable for _, row in rows)
        counts = {
            name: states.get(name, 0)
            for name in ("open", "accepted", "corrected", "rejected", "unreadable")
        }
        about: dict[str, Any] = {"counts": {**counts, "left_out": left_out}}
        shutil.rmtree(compared, ignore_errors=True)
        compared.mkdir()
        link_or_copy(out / "metadata.csv", compared / "metadata.csv")
        for folder in ("first_masks", "masks", "images"):
            (compared / folder).mkdir()
            for film, _ in trains:
                name = review.store.mask(film).name
                link_or_copy(out / folder / name, compared / folder / name)
    notes = []
    if left_out:
        notes.append(
            f"{left_out} accepted masks mark nothing or everything, and are left out of images/ "
            f"and masks/: training takes no such mask"
        )
    if not trains:
        notes.append("nothing is accepted or corrected yet, so there is nothing to train on")
        return {"report": None, "command": None, "note": "; ".join(notes), **about}
    score(
        compared / "first_masks",
        compared / "masks",
        out / "report",
        images=compared / "images",
        overwrite=True,
    )
    shutil.rmtree(compared, ignore_errors=True)
    patients = {film.stem: row.patient or film.stem for film, row in trains}
    examples = {film.stem: row.slices for film, row in trains}
    command, note = make_command(review.setup, out, patients, examples)
    notes += [note] if note else []
    return {"report": "/report", "command": command, "note": "; ".join(notes) or None, **about}


def make_command(
    setup: Setup, out: Path, patients: Mapping[str, str], examples: Mapping[str, int]
) -> tuple[str | None, str]:
    """Makes the command that trains on what was reviewed, from the model that began it.

    Args:
        patients: of the films or scans that are handed on, by stem.
        examples: how many images each of them is: its slices.

    Returns:
        the command, and a note; None where nothing can be trained yet.
    """
    model = setup.model
    if model.config.modality == "ct" and not setup.is_of_volumes:
        return None, "jaxlung train takes whole scans of CT, and no pictures of slices"
    shares = choose_shares(patients)
    if shares is None:
        count = len(set(patients.values()))
        return None, f"training needs films of {_LEAST} patients at least, and these are of {count}"
    recipe = "ct" if setup.is_of_volumes else "cxr"
    data = {"name": "ct" if setup.is_of_volumes else "folder", "dir": str(out)}
    values = load_recipe(recipe).to_dict()
    config = parse_config({**values, "data": {**values["data"], **data}})
    settings = {
        "data.name": data["name"],
        "data.dir": data["dir"],
        "train.init_from": _source(setup),
        "optim.learning_rate": f"{_RATE:g}",
        **_differences(config, model.config),
    }
    if shares != (config.data.validation_fraction, config.data.test_fraction):
        names = ("data.validation_fraction", "data.test_fraction")
        settings |= {name: repr(share) for name, share in zip(names, shares, strict=True)}
    most = sum(examples[stem] for stem in split(patients, shares)["train"])
    if most < config.train.batch_size:
        settings["train.batch_size"] = str(most)
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    parts = ["jaxlung", "train", "--config", recipe, *flags, "--workdir", WORKDIR]
    return " ".join(map(shlex.quote, parts)), ""


def _source(setup: Setup) -> str:
    model = setup.model
    name = str(model.workdir)
    is_ensemble = model.config.is_ensemble and not model.bundled
    return f"{name}/members/0" if is_ensemble else name


def _differences(recipe: Config, own: Config) -> dict[str, str]:
    """Returns the settings of the model's network and canvas that are not the recipe's."""
    names = [f"model.{name}" for name in vars(ModelConfig()) if name != "outputs"]
    names += ["data.size", "data.fit"]
    if own.modality == "ct":
        names += ["data.window_low", "data.window_high"]
    found = {}
    for name in names:
        section, field = name.split(".")
        value = getattr(getattr(own, section), field)
        if value != getattr(getattr(recipe, section), field):
            found[name] = str(value)
    return found


def choose_shares(patients: Mapping[str, str]) -> tuple[float, float] | None:
    """Chooses the shares of patients to validate and to test on; None: there are too few patients.

    The usual shares, 0.1 and 0.2, stay where no split is empty. Few patients may leave one empty,
    and then the shares are set between their hashes, by which `split_by_hash` goes.

    Args:
        patients: by the stem of each film or scan.

    Returns:
        data.validation_fraction and data.test_fraction.
    """
    usual = Config().data.validation_fraction, Config().data.test_fraction
    if all(split(patients, usual).values()):
        return usual
    places = sorted(
        int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
        for patient in set(patients.values())
    )
    if len(places) < _LEAST:
        return None
    validated, tested = (max(1, round(share * len(places))) for share in usual)
    test = (places[tested - 1] + places[tested]) / 2
    both = (places[tested + validated - 1] + places[tested + validated]) / 2
    for digits in (2, 3, 4, 17):  # as few as will do
        shares = round(both - test, digits), round(test, digits)
        if all(split(patients, shares).values()):
            return shares
    return None


def split(patients: Mapping[str, str], shares: tuple[float, float]) -> dict[str, list[str]]:
    """Splits the stems as training does, by these shares to validate and to test on."""
    return split_by_hash(list(patients), patients.__getitem__, *shares)
