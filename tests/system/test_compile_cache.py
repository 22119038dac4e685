"""Compiled programs on disk: used by the next process, and only from a folder that is safe."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxlung.system import start

PROGRAM = """
import json, jax
from jaxlung.system import start
start.enable_compile_cache()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
draw = jax.jit(lambda key: [jax.random.truncated_normal(key, -2, 2, (n,)).sum() for n in range(4)])
jax.block_until_ready(draw(jax.random.key(0)))
hits = sum(event == "/jax/compilation_cache/cache_hits" for event in hits)
print(json.dumps({"hits": hits, **{name: jax.config.values[name] for name in (
    "jax_compilation_cache_dir", *start.SETTINGS)}}))
"""


def run(cache_home):
    """What a process of its own, with no settings of the user's, ends with."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        text=True,
        capture_output=True,
        check=True,
        env={**kept, "XDG_CACHE_HOME": str(cache_home)},
    )
    return json.loads(done.stdout)


@pytest.fixture
def enable(monkeypatch, tmp_path, capsys):
    """Calls `enable_compile_cache` on settings that nothing else reads: the folder, and stderr."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in start.SETTINGS:
        monkeypatch.delenv(name.upper(), raising=False)

    def enable(**own):
        values = {"jax_compilation_cache_dir": None, "jax_enable_compilation_cache": True, **own}
        config = SimpleNamespace(values=values, update=values.__setitem__)
        monkeypatch.setattr(start, "jax", SimpleNamespace(config=config))
        start.enable_compile_cache()
        return values, capsys.readouterr().err

    return enable


def test_second_process_reuses_what_the_first_compiled(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    folder = first["jax_compilation_cache_dir"]
    assert first["hits"] == 0 and second["hits"] >= 1
    assert folder.startswith(str(tmp_path / "jaxlung"))
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert second["jax_compilation_cache_dir"] == folder
    for name, value in start.SETTINGS.items():
        assert first[name] == value


@pytest.mark.parametrize("place", ["jaxlung", "xla"])
def test_folder_that_others_can_write_to_is_not_used(enable, place):
    folder = start.default_folder()
    folder.mkdir(parents=True)
    (folder if place == "xla" else folder.parent).chmod(0o777)
    values, stderr = enable()
    assert values["jax_compilation_cache_dir"] is None
    assert "written to by others" in stderr and "chmod" in stderr and stderr.count("\n") == 1


def test_link_is_not_used(enable, tmp_path):
    folder = start.default_folder()
    folder.parent.mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    values, stderr = enable()
    assert values["jax_compilation_cache_dir"] is None and "is a link" in stderr


def test_folder_that_cannot_be_made_is_told(enable, tmp_path):
    (tmp_path / "jaxlung").write_text("a file")
    values, stderr = enable()
    assert values["jax_compilation_cache_dir"] is None and "compiling without a cache" in stderr


def test_own_settings_stay(enable, tmp_path):
    own = str(tmp_path / "own")
    assert enable(jax_compilation_cache_dir=own)[0]["jax_compilation_cache_dir"] == own
    values, _ = enable(jax_enable_compilation_cache=False)
    assert values["jax_compilation_cache_dir"] is None
    assert not (tmp_path / "jaxlung").exists()


def test_own_limits_stay(enable, monkeypatch):
    size, seconds = start.SETTINGS
    assert enable()[0].items() >= {size: 2**30, seconds: 0.1}.items()
    monkeypatch.setenv(size.upper(), "77")
    assert enable(**{size: 77})[0].items() >= {size: 77, seconds: 0.1}.items()


def test_cache_home_that_others_can_write_to_is_not_used(enable, tmp_path):
    tmp_path.chmod(0o777)
    values, stderr = enable()
    assert values["jax_compilation_cache_dir"] is None and "written to by others" in stderr
    tmp_path.chmod(0o1777)  # as /tmp: none may rename another's folder
    assert enable()[0]["jax_compilation_cache_dir"]


def test_no_home_is_told_and_stops_nothing(enable, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    values, stderr = enable()
    assert values["jax_compilation_cache_dir"] is None
    assert stderr == "Could not determine home directory. Compiling without a cache.\n"


def test_relative_cache_home_is_ignored(monkeypatch):
    """As the XDG specification has it; and it would differ from folder to folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(start.default_folder()).startswith("/home/someone/.cache/jaxlung/")
