"""Settings of JAX for all tests, and the real images where they are at hand."""

import gc
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Many tests compile the same small steps, in several workers and in processes of their own.
# One cache, which the next run of the tests finds too, lets each program compile once.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _SHARED = tempfile.TemporaryDirectory(prefix="jaxlung-tests-")
    os.environ["JAXLUNG_TESTS_SHARED"] = _SHARED.name
    os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{Path(__file__).parents[1]}/.pytest_cache/xla"
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**30)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    # Compiling is most of the suite's work, and its programs run for moments: LLVM's optimisations
    # are spared. Without them it fuses a multiplication and an addition in one place and not in
    # another, and the gradient of a maximum, which compares two of these, is NaN. AVX has no
    # instruction that does both at once; where a processor has no such choice, level 1 agrees.
    flags = ["--xla_backend_optimization_level=1"]
    if platform.machine() in ("x86_64", "AMD64"):
        flags = ["--xla_backend_optimization_level=0", "--xla_cpu_max_isa=AVX"]
    # A process ends at a flag that XLA does not know, as that of jaxlib 0.12 does not know this.
    if version("jaxlib").startswith("0.10."):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))

import filelock  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # so that sharding is tested without an accelerator
jax.config.update("jax_numpy_rank_promotion", "raise")


# Files by the time that they take, longest first: a long one that starts last leaves the other
# workers idle. pyproject.toml keeps xdist from sorting them by the number of their tests.
_LONG_FIRST = (
    "whole/test_distributed",
    "train/test_loop",
    "devices/test_mesh",
    "test_outputs",
    "model/test_unet",
    "data_check/test_check",
    "evaluation/test_own_data",
    "predict/test_volumes",
    "whole/test_survival",
    "train/test_ensemble",
    "whole/test_mutations",
    "evaluation/test_evaluate",
    "whole/test_privacy",
    "whole/test_readme",
    "predict/test_load",
    "weights/test_bundled",
    "whole/test_examples",
    "evaluation/test_one_mask",
    "predict/batch/test_run",
    "train/test_validation",
    "whole/test_same_film",
    "whole/test_bad_input",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        name = str(item.path.relative_to(root).with_suffix(""))
        return _LONG_FIRST.index(name) if name in _LONG_FIRST else len(_LONG_FIRST)

    items.sort(key=rank)  # stable: the others stay in their order


def pytest_collection_finish() -> None:
    """Spares Python's search for garbage, a quarter of the time that JAX takes to trace a step.

    What is imported stays; it is not searched again. The rest is searched less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def workdir() -> Path:
    """A small model that finds the lungs of small phantoms; a test writes elsewhere.

    The first worker that needs it trains it for all.
    """
    from configs import tiny
    from jaxlung.train.loop import train_and_evaluate

    config = tiny.get_config()
    config.data.loader = "memory"
    config.data.phantom_train = 16
    config.train.num_epochs = 15
    config.augment.flip = 0.0
    config.optim.learning_rate = 1e-2
    folder = Path(os.environ["JAXLUNG_TESTS_SHARED"])
    with filelock.FileLock(folder / "tiny.lock"):
        if not (folder / "tiny").exists():
            train_and_evaluate(config, folder / "part" / "tiny")
            os.replace(folder / "part" / "tiny", folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def model(workdir):
    import jaxlung

    return jaxlung.load(workdir)


@pytest.fixture(scope="session", autouse=True)
def one_learning_curve():
    """Drawing it takes longer than a tiny epoch: trainings here draw one, and write it again.

    tests/io/test_drawing.py looks at curves; the processes that tests start draw all of theirs.
    """
    from jaxlung.system.files import write_whole

    loop = sys.modules.get("jaxlung.train.loop")
    if loop is None:  # no test that was collected trains
        yield
        return
    draw, drawn = loop.write_learning_curve, []

    def write(path, history):
        if drawn:
            with write_whole(path) as partial:
                partial.write_bytes(drawn[0])
        else:
            draw(path, history)
            drawn.append(path.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "write_learning_curve", write)
        yield


@pytest.fixture
def shared_data() -> Path:
    path = Path(__file__).parent.parent / "../shared/data"
    if not path.is_dir():
        pytest.skip("shared/data is absent: real images are not part of the repository")
    return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium, started once for all pages; skips where it is not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install -e '.[test]'")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(chromedriver)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
