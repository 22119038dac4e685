"""What parts of the package import: one process answers all questions."""

import functools
import json
import subprocess
import sys

# Each part comes on top of those before it, and so do the modules that are loaded after it.
PARTS = {
    "package": "import jaxlung",
    "gate": "import numpy; from jaxlung import gate; gate.examine(numpy.eye(99))",
    "folder": "import jaxlung.io.images, jaxlung.data.folder",
    "bundled": "jaxlung.load('cxr')",
    "prediction": "jaxlung.load, jaxlung.train_and_evaluate, jaxlung.evaluate",
}
_CHILD = """
import json, sys, time
for name, code in json.load(sys.stdin).items():
    start = time.process_time()  # a busy machine does not stretch it
    exec(code)
    print(json.dumps([name, time.process_time() - start, sorted(sys.modules)]))
"""


@functools.cache
def _answers() -> dict[str, tuple[float, set[str]]]:
    output = subprocess.check_output(
        [sys.executable, "-c", _CHILD], input=json.dumps(PARTS), text=True
    )
    rows = map(json.loads, output.splitlines())
    return {name: (seconds, set(modules)) for name, seconds, modules in rows}


def modules_after(part: str) -> set[str]:
    """The modules that are loaded after a part of PARTS and those before it."""
    return _answers()[part][1]


def seconds_of(part: str) -> float:
    return _answers()[part][0]
