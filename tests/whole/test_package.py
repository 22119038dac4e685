"""The package's surface: fast to import, complete, documented."""

import subprocess
import sys
from pathlib import Path

import jaxlung

ROOT = Path(__file__).parents[2]


def test_import_is_fast_and_leaves_tensorflow_out():
    code = (
        "import sys, time; start = time.perf_counter(); import jaxlung; "
        "print(time.perf_counter() - start, 'tensorflow' in sys.modules)"
    )
    seconds, tensorflow = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert tensorflow == "False"
    assert float(seconds) < 2


def test_prediction_leaves_tensorflow_out():
    code = (
        "import sys, jaxlung; jaxlung.load, jaxlung.train_and_evaluate, jaxlung.evaluate; "
        "print('tensorflow' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_every_public_name_is_there_whatever_was_imported_first():
    for _ in range(2):
        for name in jaxlung.__all__:
            value = getattr(jaxlung, name)
            is_module = type(value).__name__ == "module"
            assert is_module == (name in jaxlung._MODULES), name
            if name != "__version__":
                assert value.__doc__, name


def test_entry_points_are_short():
    for name in ("train.py", "eval.py"):
        assert len((ROOT / name).read_text().splitlines()) < 60


def test_modules_are_short_and_none_is_called_utils():
    for path in (ROOT / "jaxlung").rglob("*.py"):
        assert path.name != "utils.py"
        assert len(path.read_text().splitlines()) <= 300, path
