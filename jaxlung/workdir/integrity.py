"""Finds damaged checkpoints before anything is read from them.

Neither Orbax nor TensorStore notices a bit that has changed in an array's data, so each checkpoint
holds the digests of its files.
"""

import json
import shutil
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from jaxlung.errors import InputError
from jaxlung.system.digests import digest_file

VALIDATED, INTERIM = "checkpoints", "interim"  # a run's folders of checkpoints
DIGESTS = "sha256.json"  # in a checkpoint: path to digest


def write_digests(checkpoint: Path) -> None:
    """Writes the digests of all files of a checkpoint's items."""
    files = sorted(path for path in checkpoint.glob("*/**/*") if path.is_file())
    digests = {str(path.relative_to(checkpoint)): digest_file(path) for path in files}
    (checkpoint / DIGESTS).write_text(json.dumps(digests, indent=0))


def find_damage(checkpoint: Path, item: str = "") -> str:
    """Finds a file of a checkpoint that is not as it was written, or is gone.

    Args:
        item: look at this item's files alone; "": at all.

    Returns:
        the first one's path in the checkpoint; "" where there is none.
    """
    try:
        digests = json.loads((checkpoint / DIGESTS).read_bytes())
        for path, digest in digests.items():
            if path.startswith(item) and digest_file(checkpoint / path) != digest:
                return path
    except FileNotFoundError as error:
        return str(Path(error.filename).relative_to(checkpoint))
    except (OSError, ValueError, AttributeError):
        return DIGESTS
    return ""


def list_checkpoints(workdir: Path) -> list[Path]:
    """Lists the checkpoints, latest first; the validated one is the first of a step's two."""
    folders = [path for name in (VALIDATED, INTERIM) for path in (workdir / name).glob("*")]
    return sorted((p for p in folders if p.name.isdecimal()), key=lambda p: -int(p.name))


def describe_latest(workdir: Path) -> str:
    """Returns what is left of a training whose process goes down; an ensemble's last member's."""
    folders = [path for path in (workdir / "members").glob("*") if path.name.isdecimal()]
    members = sorted(folders, key=lambda path: int(path.name))
    latest = [list_checkpoints(run)[:1] for run in (workdir, *members)]
    saved = [path for paths in latest for path in paths]
    return f"the last checkpoint is step {saved[-1].name}" if saved else "none was saved"


def set_damaged_aside(workdir: Path) -> list[str]:
    """Moves a damaged latest checkpoint to `damaged/`, so that the one before is the latest.

    The first of several processes does it, and the others wait.

    Returns:
        a warning for each that was moved.

    Raises:
        InputError: all are damaged; none is moved.
    """
    warnings = _set_damaged_aside(workdir) if jax.process_index() == 0 else []
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
    return warnings


def _set_damaged_aside(workdir: Path) -> list[str]:
    damaged, latest = {}, None
    for checkpoint in list_checkpoints(workdir):
        file = find_damage(checkpoint) if latest is None else _damaged_metrics(checkpoint)
        if file:
            damaged[checkpoint] = file
        elif latest is None:
            latest = checkpoint
    if damaged and latest is None:
        checkpoint, file = next(iter(damaged.items()))
        raise InputError(
            f"{checkpoint / file}: is damaged, and no other checkpoint is whole; restore it from a "
            f"copy, or start a new --workdir"
        )
    warnings = []
    for checkpoint, file in damaged.items():
        target = _free(workdir / "damaged" / checkpoint.name)
        target.parent.mkdir(exist_ok=True)
        shutil.move(checkpoint, target)
        warnings.append(
            f"warning: {checkpoint / file} is damaged or gone; moved the checkpoint to {target}"
        )
    return warnings


def _damaged_metrics(checkpoint: Path) -> str:
    """Returns a checkpoint's metrics, where they are damaged; Orbax reads those of all."""
    path = checkpoint / "metrics" / "metrics"
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:  # a kill came while the run deleted the checkpoint
        pass
    except ValueError:
        return str(path.relative_to(checkpoint))
    return ""


def _free(path: Path) -> Path:
    count, free = 0, path
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}_{count}")
    return free
