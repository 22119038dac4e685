"""The plan of the package: rooms that are small, without circles, and mirrored by the tests."""

import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jaxlung"
FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_is_small(folder):
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    most = 10 if folder.name in ("io", "builders") else 12
    assert len(modules) <= most, sorted(path.name for path in modules)


def test_imports_make_no_circle():
    graph = grimp.build_graph("jaxlung", cache_dir=None)
    left = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    while left:  # take away what imports nothing that is left
        free = {module for module, imported in left.items() if not imported & left.keys()}
        assert free, f"in or behind a circle: {sorted(left)}"
        left = {module: imported for module, imported in left.items() if module not in free}


def test_tests_lie_where_their_module_does():
    for path in (ROOT / "tests").rglob("test_*.py"):
        room = path.parent.relative_to(ROOT / "tests")
        assert room.parts[:1] == ("whole",) or (PACKAGE / room).is_dir(), path


def test_files_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names = re.findall(r"`((?:jaxlung|tests|docs)/[\w/.]+|README\.md)`", text)
    assert len(names) > 25
    for name in names:
        if "NAME" not in name:
            assert (ROOT / name).exists(), name


def test_ruff_decides_the_layout():
    sources = [path for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    count = sum(path.read_text().count("# fmt: " + "skip") for path in sources)
    assert count <= 10


def test_architecture_is_one_page():
    assert len((ROOT / "docs/architecture.md").read_text().splitlines()) <= 80
