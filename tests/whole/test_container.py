"""Containerfile keeps to what builds again and runs safely, as far as its instructions tell."""

import json
import re
import tomllib
from fnmatch import fnmatch

import pytest

from tests.helpers.doc_pages import ROOT, read

PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
RUN_STAGES = ("cpu", "cuda")


def parse(text):
    """(instruction, argument) for each, lines that go on joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stages_of(instructions):
    """Name to (base, instructions), in the file's order."""
    stages = {}
    for word, argument in instructions:
        if word == "FROM":
            base, _, name = argument.partition(" AS ")
            stages[name] = (base, own := [])
        else:
            own.append((word, argument))
    return stages


INSTRUCTIONS = parse(read("Containerfile"))
STAGES = stages_of(INSTRUCTIONS)


def all_of(name):
    """The instructions of a stage, after those of the stages that it begins from."""
    base, own = STAGES[name]
    return (all_of(base) if base in STAGES else []) + own


def test_the_parser_joins_lines_and_leaves_comments_out():
    text = "# a\nFROM x:1 AS one\nRUN a \\\n    b\nFROM one AS two\nUSER 5\n"
    assert stages_of(parse(text)) == {
        "one": ("x:1", [("RUN", "a b")]),
        "two": ("one", [("USER", "5")]),
    }


def test_instructions_are_known():
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in INSTRUCTIONS} <= known  # ADD fetches and unpacks unseen
    assert {*RUN_STAGES} < {*STAGES} and list(STAGES)[-1] == "cpu"


@pytest.mark.parametrize("name", STAGES)
def test_bases_are_pinned(name):
    base = STAGES[name][0]
    if base not in list(STAGES)[: list(STAGES).index(name)]:
        minor = re.fullmatch(r"docker\.io/library/python:3\.(\d+)-slim-\w+", base)
        assert minor, f"{base}: name the registry, Python's minor version and the system"
        least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
        assert int(minor[1]) >= int(least[1])


def test_all_stages_have_one_python():
    assert len({base for base, _ in STAGES.values() if base not in STAGES}) == 1


@pytest.mark.parametrize("name", RUN_STAGES)
def test_nobody_is_root_at_run_time(name):
    users = [argument for word, argument in all_of(name) if word == "USER"]
    assert users and users[-1].split(":")[0] not in ("root", "0")
    created = re.findall(r"useradd .*--uid (\d+)", " ".join(a for _, a in all_of(name)))
    assert users[-1] in created


@pytest.mark.parametrize("name", RUN_STAGES)
def test_the_command_is_jaxlung(name):
    arguments = dict(all_of(name))
    assert json.loads(arguments["ENTRYPOINT"]) == ["jaxlung"]
    assert "jaxlung" in PROJECT["scripts"]
    assert json.loads(arguments["CMD"]) == ["--help"]


@pytest.mark.parametrize("name", RUN_STAGES)
def test_extras_exist(name):
    [extras] = re.findall(r"\.whl\)\[([\w,-]+)\]", " ".join(a for _, a in all_of(name)))
    assert {*extras.split(",")} <= {*PROJECT["optional-dependencies"]}
    assert ("cuda" in extras.split(",")) == (name == "cuda")


def copies():
    for name, (_, own) in STAGES.items():
        for word, argument in own:
            if word == "COPY":
                *sources, _ = [part for part in argument.split() if not part.startswith("--")]
                yield name, "--from=" in argument, sources


def is_ignored(path):
    """The last line of .dockerignore that fits decides."""
    ignored = False
    for line in read(".dockerignore").splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not line.startswith("#") and fnmatch(path, pattern):
            ignored = not line.startswith("!")
    return ignored


def test_what_is_copied_exists_and_reaches_the_builder():
    copied = [path for _, from_stage, paths in copies() if not from_stage for path in paths]
    assert copied
    for path in copied:
        assert (ROOT / path).exists() and not is_ignored(path), path
    # What the build reads: setup.py maps configs/, and pyproject.toml names the others.
    wanted = {"pyproject.toml", "setup.py", "jaxlung", "configs", PROJECT["readme"]}
    assert wanted | {*PROJECT["license-files"]} == {*copied}


def test_nothing_else_reaches_the_builder():
    for path in ("films", "runs", ".git", "tests", "image.png", "shared"):
        assert is_ignored(path), path
    assert is_ignored("jaxlung/__pycache__")


def test_copies_between_stages_name_earlier_ones():
    for name, (_, own) in STAGES.items():
        for word, argument in own:
            for stage in re.findall(r"--from=(\S+)", argument) if word == "COPY" else ():
                assert list(STAGES).index(stage) < list(STAGES).index(name)


def test_caches_of_packages_stay_out_of_the_layers():
    for _, argument in INSTRUCTIONS:
        assert "apt-get" not in argument and "curl" not in argument
    for name in RUN_STAGES:
        assert ("ENV", "PIP_NO_CACHE_DIR=1") in [
            (word, part) for word, argument in all_of(name) for part in argument.split()[-1:]
        ]
