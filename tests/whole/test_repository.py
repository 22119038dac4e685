"""The files by which people meet the repository: citation, reports, release."""

import re

import yaml

from tests.helpers.doc_pages import ROOT, code_blocks, list_commands, read

TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
FORMS = [path for path in TEMPLATES if path.name != "config.yml"]


def test_citation_has_what_the_format_wants():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["authors"] == [{"name": "The jaxlung authors"}]
    assert citation["license"] == "Apache-2.0" and citation["type"] == "software"
    assert "version" not in citation  # jaxlung/version.py is its one place


def test_issue_forms_are_complete_and_warn_of_patient_data():
    assert {path.stem for path in FORMS} == {"bug", "wrong_mask", "feature"}
    for path in FORMS:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= form.keys()
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(ids) == len({*ids})
        for part in form["body"]:
            kinds = ("markdown", "textarea", "input", "dropdown", "checkboxes")
            assert part["type"] in kinds and "attributes" in part
            assert part["type"] == "markdown" or part["attributes"].get("label")
    for name in ("bug", "wrong_mask"):
        text = read(f".github/ISSUE_TEMPLATE/{name}.yml")
        assert "Never upload a patient's image" in text and "required: true" in text


def test_the_models_of_the_form_are_those_of_the_package():
    form = yaml.safe_load(read(".github/ISSUE_TEMPLATE/wrong_mask.yml"))
    [models] = [part for part in form["body"] if part.get("id") == "model"]
    weights = {path.stem for path in (ROOT / "jaxlung/weights").glob("*.json")}
    assert {*models["attributes"]["options"]} == weights | {"one of my own"}


def test_security_says_how_and_what():
    text = read("SECURITY.md")
    for words in ("in private", "pickle", "Supported versions", "127.0.0.1"):
        assert words in text
    for name in re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", text):
        assert (ROOT / name).exists(), name


def test_modules_that_the_release_runs_exist():
    commands = [c for block in code_blocks("docs/release.md") for c in list_commands(block)]
    assert len(commands) > 8
    for command in commands:
        for module in re.findall(r"python -m (tools[\w.]+|benchmarks[\w.]+)", command):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), command
        for path in re.findall(r"(?:^| )(\.ci/\w+|[\w/]+\.(?:py|md|cff))", command):
            assert (ROOT / path).exists(), command
