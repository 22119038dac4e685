"""The end of a review: a report of what was corrected, and the command that learns from it."""

import hashlib
import shlex
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from jaxlung.config import Config, load_recipe, parse_config
from jaxlung.config.settings import ModelConfig
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
    with review.lock:
        rows = list(zip(review.films, review.rows, strict=True))
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
        compared = review.store.out / "view" / "first"
        shutil.rmtree(compared, ignore_errors=True)
        compared.mkdir()
        for film, _ in trains:
            first = review.store.first(film)
            link_or_copy(first, compared / first.name)
    notes = []
    if left_out:
        notes.append(
            f"{left_out} accepted masks mark nothing or everything, and are left out of images/ "
            f"and masks/: training takes no such mask"
        )
    if not trains:
        notes.append("nothing is accepted or corrected yet, so there is nothing to train on")
        return {"report": None, "command": None, "note": "; ".join(notes), **about}
    out = review.store.out
    score(compared, out / "masks", out / "report", images=out / "images", overwrite=True)
    patients = [row.patient or film.stem for film, row in trains]
    command, note = make_command(review.setup, out, patients, sum(row.slices for _, row in trains))
    notes += [note] if note else []
    return {"report": "/report", "command": command, "note": "; ".join(notes) or None, **about}


def make_command(
    setup: Setup, out: Path, patients: list[str], examples: int
) -> tuple[str | None, str]:
    """Makes the command that trains on what was reviewed, from the model that began it.

    Args:
        patients: of each film or scan that is handed on.
        examples: films or slices that are handed on.

    Returns:
        the command, and a note; None where nothing can be trained yet.
    """
    model = setup.model
    if model.config.modality == "ct" and not setup.is_of_volumes:
        return None, "jaxlung train takes whole scans of CT, and no pictures of slices"
    fractions = choose_fractions(patients)
    if fractions is None:
        count = len(set(patients))
        return None, f"training needs the films of {_LEAST} patients, and these are of {count}"
    recipe = "ct" if setup.is_of_volumes else "cxr"
    config = parse_config(load_recipe(recipe).to_dict())
    settings = {
        "data.name": "ct" if setup.is_of_volumes else "folder",
        "data.dir": str(out),
        "train.init_from": _source(setup),
        "optim.learning_rate": f"{_RATE:g}",
        **_differences(config, model.config),
        **fractions.settings(config),
    }
    # Splits differ by patients; at least one image of each split is surely not for training.
    most = examples - (examples // len(patients)) * fractions.held_back
    if most < config.train.batch_size:
        settings["train.batch_size"] = str(max(1, most))
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


class Fractions:
    """Shares of patients to validate and to test on, such that no split is empty."""

    def __init__(self, validation: float, test: float, held_back: int):
        self.validation, self.test, self.held_back = validation, test, held_back

    def settings(self, recipe: Config) -> dict[str, str]:
        """Returns those that are not the recipe's."""
        own = {"data.validation_fraction": self.validation, "data.test_fraction": self.test}
        usual = (recipe.data.validation_fraction, recipe.data.test_fraction)
        return {} if tuple(own.values()) == usual else {n: f"{v:.6g}" for n, v in own.items()}


def choose_fractions(patients: list[str]) -> Fractions | None:
    """Chooses the shares of `data.splitting.split_by_hash`; None: there are too few patients.

    The usual shares, 0.1 and 0.2, are kept where they leave no split empty. With few patients they
    may, and then the shares are set between the hashes of these patients.
    """
    usual = Config().data
    places = sorted(
        int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
        for patient in set(patients)
    )
    test, both = usual.test_fraction, usual.test_fraction + usual.validation_fraction
    tested = sum(place < test for place in places)
    validated = sum(test <= place < both for place in places)
    if tested and validated and tested + validated < len(places):
        return Fractions(usual.validation_fraction, usual.test_fraction, tested + validated)
    if len(places) < _LEAST:
        return None
    tested = max(1, round(usual.test_fraction * len(places)))
    validated = max(1, round(usual.validation_fraction * len(places)))
    test = (places[tested - 1] + places[tested]) / 2
    both = (places[tested + validated - 1] + places[tested + validated]) / 2
    return Fractions(both - test, test, tested + validated)
