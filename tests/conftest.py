"""Settings of JAX for all tests, and the real images where they are at hand."""

import os
import tempfile
from pathlib import Path

# Many tests compile the same small steps, some in processes of their own: compile each once.
_CACHE = tempfile.TemporaryDirectory(prefix="jaxlung-test-cache-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # so that sharding is tested without an accelerator
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def shared_data() -> Path:
    path = Path(__file__).parent.parent / "../shared/data"
    if not path.is_dir():
        pytest.skip("shared/data is absent: real images are not part of the repository")
    return path
