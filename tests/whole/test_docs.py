"""The docs: each page is on the site, links hold, how-to is short, the reference is whole."""

import dataclasses
import importlib.util
import json
import re

import matplotlib.pyplot as plt
import pytest

import jaxlung
from jaxlung.cli.main import make_parser
from jaxlung.config import Config
from tests.helpers.doc_pages import ROOT, anchors_of, sentences

DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))
TOCTREES = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)


def pages_of(toctree):
    """The files that a toctree names, by pattern or one by one."""
    entries = [line for line in toctree.splitlines() if line and not line.startswith(":")]
    return {path for entry in entries for path in DOCS.glob(f"{entry}.*")} & {*PAGES, *NOTEBOOKS}


def test_every_page_is_in_a_toctree():
    listed = {path for toctree in TOCTREES for path in pages_of(toctree)}
    assert {*PAGES, *NOTEBOOKS} - listed == {DOCS / "index.md"}


def test_how_to_pages_are_short():
    [how_to] = [toctree for toctree in TOCTREES if ":caption: How to" in toctree]
    lengths = {path.name: len(path.read_text().splitlines()) for path in pages_of(how_to)}
    assert len(lengths) > 10
    assert {name: lines for name, lines in lengths.items() if lines > 150} == {}


def test_sentences_of_getting_started_are_short():
    for path in DOCS.glob("start/*.md"):
        for sentence in sentences(str(path.relative_to(ROOT))):
            assert len(sentence.split()) <= 35, f"{path}: {sentence}"


@pytest.mark.parametrize(
    "path", [*PAGES, *ROOT.glob("*.md")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_between_files_hold_on_a_code_host(path):
    """The strict build checks those of the site; these are the links as they stand in the files."""
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.DOTALL)
    for name, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", text):
        target = (path.parent / name).resolve() if name else path
        assert target.exists() or target.with_suffix(".ipynb").exists(), f"{path.name}: {name}"
        if anchor:
            assert anchor in anchors_of(target.read_text()), f"{path.name}: {name}#{anchor}"


@pytest.fixture(scope="module")
def generated():
    """The module that makes the reference at build time."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "_ext/generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_setting_with_its_default_and_range(generated):
    text = generated.list_settings()
    for section, values in vars(Config()).items():
        for field in dataclasses.fields(values):
            [row] = [line for line in text.splitlines() if f"| `{section}.{field.name}` |" in line]
            assert f"| `{field.default!r}` |" in row
            if "range" in field.metadata:
                low, high = re.search(r"from (\S+) to (\S+) \|", row).groups()
                assert (float(low), float(high)) == field.metadata["range"]


def test_the_reference_has_every_command_and_flag(generated):
    text = generated.list_commands()
    parsers = list(generated._walk(make_parser()))
    assert len(parsers) > 8
    for parser in parsers:
        assert f"## {parser.prog}\n" in text
        for action in parser._actions:
            for flag in action.option_strings:
                assert flag in ("-h", "--help") or flag in text, f"{parser.prog}: {flag}"


def test_the_reference_has_every_public_name(generated):
    named = {line.split()[-1] for line in generated.list_names().splitlines() if ":: " in line}
    assert named == {f"jaxlung.{name}" for name in jaxlung._HOME}
    modules = generated.list_modules()
    for name in jaxlung._MODULES.values():
        assert f"# jaxlung.{name}\n" in modules


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_the_pure_functions_compose_as_the_notebook_says(monkeypatch):
    """`.ci/full` executes all notebooks; this one runs here, in the process."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads((DOCS / "notebooks/compose.ipynb").read_text())["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "compose.ipynb", "exec"), names)
    plt.close("all")
    assert names["logits_4xBxHxWx1"].shape == (4, 8, 64, 64, 1)
    assert names["dice_B"].mean() > 0.6 and abs(names["gradient_BxHxWx1"]).max() > 0
