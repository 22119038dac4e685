"""Trains on meshes of 8 virtual devices, in a process of its own, and prints JSON.

python -m tests.helpers.mesh_runs equal MESH ...
python -m tests.helpers.mesh_runs resumed FOLDER
"""

import json
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

from configs import tiny  # noqa: E402
from jaxlung.config import parse_config  # noqa: E402
from jaxlung.devices import mesh as mesh_module  # noqa: E402
from jaxlung.devices.mesh import make_mesh, to_devices  # noqa: E402
from jaxlung.train import loop, validation  # noqa: E402
from jaxlung.train.compiled import compile_steps  # noqa: E402

# Name to the number of devices, and what is changed in the config.
MESHES = {
    "single": (1, {}),
    "data": (8, {}),
    "fsdp": (8, {"mesh": {"fsdp": True}}),
    "space": (8, {"mesh": {"space": 4}}),
    "mixed": (8, {"mesh": {"model": 2, "space": 2, "fsdp": True}}),
    "accumulated": (2, {"train": {"accumulate": 4}}),
}


def config_of(changes):
    config = tiny.get_config()
    config.data.loader = "memory"
    config.data.phantom_train = 16
    config.model.width = 16  # as by default: of few channels each would be a group of its own
    config.train.batch_size = 8
    config.update(changes)
    return parse_config(config)


def first_state():
    """The state that all start from, on the host: it is drawn by one program."""
    compiled = compile_steps(config_of({}), make_mesh(8, jax.devices()[:1]), 10)
    return jax.device_get(compiled.init(jax.random.key(0)))


def five_steps(start, devices, changes):
    """Losses, parameters, a prediction, and the share of the state that a device holds."""
    config = config_of(changes)
    mesh = make_mesh(8, jax.devices()[:devices], config.mesh, config.train.accumulate)
    compiled = compile_steps(config, mesh, 10)
    state = jax.tree.map(
        lambda array, place: jax.device_put(array, place.sharding), start, compiled.abstract
    )
    rng, losses = np.random.default_rng(0), []
    for _ in range(5):
        batch = {
            "image": rng.integers(0, 255, (8, 32, 32)).astype(np.uint8),
            "mask": 255 * rng.integers(0, 2, (8, 32, 32)).astype(np.uint8)[..., None],
            "labelled": np.ones((8, 1), bool),
        }
        state, metrics = compiled.train(state, to_devices(batch, mesh), jax.random.key(1))
        losses.append(float(metrics["loss"]))
    shown = to_devices({"image": batch["image"][: mesh.shape["data"]]}, mesh)
    probability_BxSxS = np.asarray(compiled.predict(state.variables, shown["image"]))
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    whole = sum(x.nbytes for x in jax.tree.leaves(state))
    return losses, jax.device_get(state.params), probability_BxSxS[0], held / whole


def largest(errors):
    return max(map(float, errors))


def equal_runs(names):
    """Bar: the same losses and parameters on every mesh."""
    found, start = {}, first_state()
    for name in ("single", *names):
        devices, changes = MESHES[name]
        losses, params, probability_SxS, share = five_steps(start, devices, changes)
        if name == "single":
            first_losses, first_params, first_probability_SxS = losses, params, probability_SxS
        found[name] = {
            "loss": largest(abs(a - b) / b for a, b in zip(losses, first_losses, strict=True)),
            "params": largest(
                np.linalg.norm(a - b) / np.linalg.norm(b)
                for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(first_params), strict=True)
            ),
            "probability": float(abs(probability_SxS - first_probability_SxS).max()),
            # Adam makes a step of any gradient, so that where it is all but zero rounding shows.
            "all_params": float(
                np.linalg.norm(ravel_pytree(params)[0] - ravel_pytree(first_params)[0])
                / np.linalg.norm(ravel_pytree(first_params)[0])
            ),
            "moved": float(np.linalg.norm(ravel_pytree(params)[0] - ravel_pytree(start.params)[0])),
            "share_of_state": share,
        }
    return found


def resumed_runs(folder):
    """Losses of the second epoch after a checkpoint on 4 devices, on other numbers of them."""

    def run(name, devices, mesh, epochs_before_stop=None):
        config = config_of({"train": {"num_epochs": 2}, "mesh": mesh})
        make_mesh = partial(mesh_module.make_mesh, devices=jax.devices()[:devices])
        validate, calls = validation.validate, 0

        def stop(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == epochs_before_stop:
                raise KeyboardInterrupt
            return validate(*args, **kwargs)

        with (
            mock.patch("jaxlung.devices.mesh.make_mesh", make_mesh),
            mock.patch("jaxlung.train.loop.validate", stop),
        ):
            loop.train_and_evaluate(config, folder / name)
        lines = (folder / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["train_loss"] for line in lines]

    import shutil

    found = {"4": run("whole", 4, {})}
    try:
        run("stopped", 4, {}, 2)
    except KeyboardInterrupt:
        pass
    for name, devices, mesh in (("1", 1, {}), ("8", 8, {"fsdp": True, "space": 2})):
        shutil.copytree(folder / "stopped", folder / name)
        found[name] = run(name, devices, mesh)
    return found


if __name__ == "__main__":
    sys.stdout = sys.stderr
    what, *names = sys.argv[1:]
    results = equal_runs(names) if what == "equal" else resumed_runs(Path(sys.argv[2]))
    print(json.dumps(results), file=sys.__stdout__)
