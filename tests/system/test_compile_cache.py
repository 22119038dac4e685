"""Compiled programs on disk: used by the next process, and only from a folder that is safe."""

import os
import subprocess
import sys

import pytest

from jaxlung.system import start

PROGRAM = """
import jax, jax.numpy as jnp
from jaxlung.system import start
start.enable_compile_cache()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
draw = jax.jit(lambda key: [jax.random.truncated_normal(key, -2, 2, (n,)).sum() for n in range(8)])
jax.block_until_ready(draw(jax.random.key(0)))
print(jax.config.values["jax_compilation_cache_dir"])
print(sum(event == "/jax/compilation_cache/cache_hits" for event in hits))
"""


def run(cache_home, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        text=True,
        capture_output=True,
        check=True,
        env={**kept, "XDG_CACHE_HOME": str(cache_home), **environment},
    )
    folder, hits = done.stdout.split()
    return folder, int(hits), done.stderr


def test_second_process_reuses_what_the_first_compiled(tmp_path):
    folder, hits, _ = run(tmp_path)
    assert hits == 0
    assert folder.startswith(str(tmp_path / "jaxlung"))
    assert os.stat(folder).st_mode & 0o777 == 0o700
    again, hits, _ = run(tmp_path)
    assert again == folder and hits >= 1


@pytest.mark.parametrize("place", ["jaxlung", "xla"])
def test_folder_that_others_can_write_to_is_not_used(tmp_path, monkeypatch, place):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = start.default_folder()
    folder.mkdir(parents=True)
    (folder if place == "xla" else folder.parent).chmod(0o777)
    used, hits, stderr = run(tmp_path)
    assert (used, hits) == ("None", 0)
    assert "written to by others" in stderr and "chmod" in stderr and stderr.count("\n") == 1


def test_link_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = start.default_folder()
    folder.parent.mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    used, _, stderr = run(tmp_path)
    assert used == "None" and "is a link" in stderr


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "jaxlung").write_text("a file")
    used, _, stderr = run(tmp_path)
    assert used == "None" and "compiling without a cache" in stderr


def test_own_settings_stay(tmp_path):
    own = str(tmp_path / "own")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=own)[0] == own
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[0] == "None"
    assert not (tmp_path / "jaxlung").exists()


def test_own_limits_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = (
        "import jax; from jaxlung.system import start; start.enable_compile_cache(); "
        "v = jax.config.values; print(v['jax_compilation_cache_max_size'], "
        "v['jax_persistent_cache_min_compile_time_secs'])"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    for own, expected in (
        ({}, f"{2**30} 0.1"),
        ({"JAX_COMPILATION_CACHE_MAX_SIZE": "77"}, "77 0.1"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            text=True,
            capture_output=True,
            check=True,
            env={**kept, **own},
        )
        assert done.stdout.strip() == expected


def test_cache_home_that_others_can_write_to_is_not_used(tmp_path):
    tmp_path.chmod(0o777)
    used, _, stderr = run(tmp_path)
    assert used == "None" and "written to by others" in stderr
    tmp_path.chmod(0o1777)  # as /tmp: none may rename another's folder
    assert run(tmp_path)[0] != "None"


def test_no_home_is_told_and_stops_nothing():
    program = (
        "import jax; from jaxlung.system import start\n"
        "def home(): raise RuntimeError('Could not determine home directory.')\n"
        "start.Path.home = home\n"
        "start.enable_compile_cache()\n"
        "print(jax.config.values['jax_compilation_cache_dir'])"
    )
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("JAX_") and k != "XDG_CACHE_HOME"
    }
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True, env=kept
    )
    assert done.stdout.strip() == "None"
    assert done.stderr == "Could not determine home directory. Compiling without a cache.\n"


def test_relative_cache_home_is_ignored(monkeypatch):
    """As the XDG specification has it; and it would differ from folder to folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(start.default_folder()).startswith("/home/someone/.cache/jaxlung/")
