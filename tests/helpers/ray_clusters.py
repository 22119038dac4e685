"""Ray clusters of this machine for tests, and batches on them, in processes of their own.

Ray leaves threads and environment variables behind, so pytest's own process does not start it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_script(source: str, *arguments: object, seconds: float = 550) -> dict:
    """Runs a script of a test; returns the JSON that its last line holds."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", source, *map(str, arguments)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # and Ray's own processes
            raise
    assert process.returncode == 0, f"{out[-2000:]}\n{err[-4000:]}"
    found: dict = json.loads(out.splitlines()[-1])
    return found | {"stderr": err, "stdout": out}
