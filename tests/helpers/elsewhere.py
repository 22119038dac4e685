"""Runs an exported StableHLO file in a process that may import neither jaxlung nor Flax."""

import subprocess
import sys

import numpy as np

# argv: the file, canvases, where results go.
ELSEWHERE = """
import sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jaxlung", "flax"):
            raise ImportError(name + " is forbidden")
sys.meta_path.insert(0, Forbid())
import jax, jax.export, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
read = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
canvases = np.load(sys.argv[2])
results = [read.call(canvases[:count]) for count in (1, len(canvases))]
assert set(read.platforms) == {"cpu", "cuda", "tpu"}
np.savez(sys.argv[3], **{f"{n}{i}": a for i, r in enumerate(results) for n, a in r.items()})
"""


def run_elsewhere(path, canvases, folder):
    """Returns each output of the first canvas, NAME0, and of all of them, NAME1."""
    np.save(folder / "canvases.npy", canvases)
    files = [str(path), str(folder / "canvases.npy"), str(folder / "found.npz")]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *files], check=True, cwd=folder)
    with np.load(folder / "found.npz") as found:
        return dict(found)
