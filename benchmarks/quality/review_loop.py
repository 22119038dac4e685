"""Does correcting a few masks help with the others? The loop of docs/review.md, by script.

    python -m benchmarks.quality.review_loop --films shared/data/shenzhen --workdir runs/loop

Films of a test split are predicted by a model that saw none of their masks, and reviewed through
the page's own requests to a running `jaxlung view`. Some are corrected from their true masks, the
others are left open. The model is fine-tuned by the command that the server shows, and the films
that were left are scored with both models. Which are corrected is drawn by --seed, or those that
the list puts first (--worst-first), as a person would take them.
"""

import argparse
import csv
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

from jaxlung.data.splitting import split_by_hash
from jaxlung.evaluation.mask_scores import score
from jaxlung.io.masks import read_mask
from jaxlung.metrics.statistics import mean_intervals

METRICS = ("dice", "hd95_px", "precision", "recall")


def take_test_films(source: Path, count: int, target: Path) -> list[str]:
    """Copies films and masks of the test split, by hash, and returns their stems."""
    stems = sorted(path.stem for path in (source / "images").glob("*.png"))
    chosen = split_by_hash(stems, str, 0.1, 0.2)["test"][:count]
    for name in ("images", "masks"):
        (target / name).mkdir(parents=True)
        for stem in chosen:
            shutil.copy(source / name / f"{stem}.png", target / name / f"{stem}.png")
    return chosen


class Page:
    """Starts `jaxlung view` and sends what its page would send."""

    def __init__(self, films: Path, out: Path, model: str):
        command = [sys.executable, "-m", "jaxlung", "view", films, "--model", model]
        command += ["--out", out, "--no-browser"]
        self.process = subprocess.Popen(map(str, command), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = next(text for text in self.process.stdout if "token=" in text)
        match = re.search(r"(http\S+/)\?token=\S+", line)
        assert match
        self.http = httpx.Client(base_url=match[1], follow_redirects=True, timeout=600)
        self.http.headers.update({"origin": match[1].rstrip("/"), "x-jaxlung": "1"})
        self.http.get(match[0]).raise_for_status()

    def wait(self) -> list[dict]:
        """Returns the list once all films are predicted, in the page's order."""
        while True:
            films = self.http.get("/api/review").raise_for_status().json()["films"]
            if all(film["ready"] for film in films):
                return sorted(films, key=lambda film: (-film["attention"], film["index"]))
            time.sleep(0.5)

    def correct(self, film: dict, mask_HxW: np.ndarray) -> None:
        self.http.put(
            f"/api/films/{film['id']}/mask",
            content=mask_HxW.astype(np.uint8).tobytes(),
            headers={"if-match": str(film["revision"])},
        ).raise_for_status()

    def finish(self) -> dict:
        about = self.http.post("/api/finish").raise_for_status().json()
        self.process.terminate()
        self.process.wait()
        return about


def read_scores(report: Path) -> np.ndarray:
    """Returns METRICS of each film of a report by `score`, [N, M]: one order of films in all."""
    with open(report / "per_image.csv", newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["id"])
    return np.array([[float(row[f"{metric}_original"]) for metric in METRICS] for row in rows])


def compare(before_N: np.ndarray, after_N: np.ndarray) -> dict:
    """Compares means of the same films; the interval is of the mean difference."""
    gains = (after_N - before_N)[:, None]
    [ci95] = mean_intervals(gains, patients=[str(i) for i in range(len(gains))])
    return {
        "before": before_N.mean(),
        "after": after_N.mean(),
        "gain": gains.mean(),
        "ci95": list(ci95),
        "higher": int((after_N > before_N).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--films", type=Path, required=True, help="folder with images/ and masks/")
    parser.add_argument("--workdir", type=Path, required=True, help="for all that is written")
    parser.add_argument("--model", default="cxr-open", help="that saw none of these masks")
    parser.add_argument("--count", type=int, default=60, help="films of the test split")
    parser.add_argument("--correct", type=int, default=10, help="of these, to correct")
    parser.add_argument("--worst-first", action="store_true", help="those that the list puts first")
    parser.add_argument("--seed", type=int, default=0, help="of the choice otherwise")
    parser.add_argument("rest", nargs="*", help="settings for the training, as --config.a.b=c")
    arguments, settings = parser.parse_known_args()
    work, model = arguments.workdir, arguments.model
    stems = take_test_films(arguments.films, arguments.count, work / "films")

    page = Page(work / "films" / "images", work / "review", model)
    films = page.wait()
    if not arguments.worst_first:
        random.Random(arguments.seed).shuffle(films)
    corrected = films[: arguments.correct]
    for film in corrected:
        page.correct(film, read_mask(work / "films" / "masks" / f"{film['name']}.png"))
    command = page.finish()["command"]
    if command is None:
        raise SystemExit("too few films were corrected to train on")

    _, *train = shlex.split(command)
    train[train.index("--workdir") + 1] = str(work / "run")
    train = [*train, *settings]
    print(f"jaxlung {shlex.join(train)}", flush=True)
    subprocess.run([sys.executable, "-m", "jaxlung", *train], check=True)

    names = {film["name"] for film in corrected}
    left = [stem for stem in stems if stem not in names]
    for name in ("images", "masks"):
        (work / "left" / name).mkdir(parents=True)
        for stem in left:
            shutil.copy(work / "films" / name / f"{stem}.png", work / "left" / name)
    scores = {}
    for name, used in (("before", model), ("after", str(work / "run"))):
        predict = ["predict", work / "left" / "images", "--model", used, "--out", work / name]
        predict += ["--no-overlay"]
        subprocess.run([sys.executable, "-m", "jaxlung", *map(str, predict)], check=True)
        score(work / name, work / "left" / "masks", work / f"{name}_score")
        scores[name] = read_scores(work / f"{name}_score")
    found = {"corrected": sorted(names), "left": len(left)}
    for i, metric in enumerate(METRICS):
        found[metric] = compare(scores["before"][:, i], scores["after"][:, i])
    text = json.dumps(found, indent=1)
    (work / "loop.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
