"""The package's surface: fast to import, complete, documented."""

from pathlib import Path

import jaxlung
from tests.helpers.imports import modules_after, seconds_of

ROOT = Path(__file__).parents[2]


def test_import_is_fast_and_leaves_tensorflow_out():
    assert "tensorflow" not in modules_after("package")
    assert seconds_of("package") < 2


def test_bundled_models_start_without_the_tools_of_training():
    """Orbax and Optax take a third of the time that JAX takes to import."""
    assert not {"orbax", "optax"} & modules_after("bundled")
    assert {"orbax", "optax"} <= modules_after("prediction")


def test_prediction_leaves_tensorflow_out():
    assert "tensorflow" not in modules_after("prediction")


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
        assert len((ROOT / name).read_text().splitlines()) < 20


def test_modules_are_short_and_none_is_called_utils():
    for path in (ROOT / "jaxlung").rglob("*.py"):
        assert path.name != "utils.py"
        assert len(path.read_text().splitlines()) <= 300, path
