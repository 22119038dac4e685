"""engine.wasm is what engine.c compiles to, and computes what the plan says."""

import base64
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from jaxlung.export.html import plan
from jaxlung.export.html.bundle import bundle
from jaxlung.export.html.numpy_engine import run_plan
from jaxlung.export.html.plan import make_plan
from tests.export.html.test_plan import NETWORKS, make_variables

HTML = Path(plan.__file__).parent


@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="pip install -e '.[wasm]' has the compiler"
)
def test_the_committed_file_is_what_the_source_compiles_to(tmp_path):
    from tools.build_engine import build

    build(tmp_path / "engine.wasm")
    assert (tmp_path / "engine.wasm").read_bytes() == (HTML / "engine" / "engine.wasm").read_bytes()


@pytest.fixture(scope="module")
def engine(browser):
    """Runs plans in Chromium, by the page's own module."""
    source = bundle([HTML / "worker"], "engine").removesuffix("})();\n")
    code = base64.b64encode((HTML / "engine" / "engine.wasm").read_bytes()).decode()

    def run(plan, size, outputs, members, canvas_SxS):
        halves = plan.kernels.astype("<f2").reshape(-1).view(np.uint8).reshape(-1, 2)
        weights = halves.T.tobytes() + plan.vectors.astype("<f4").tobytes()
        about = {**plan._asdict(), "size": size, "outputs": outputs, "members": members}
        about |= {"kernels": plan.kernels.shape[1], "vectors": plan.vectors.shape[1]}
        browser.get("data:text/html,")
        planes = browser.execute_script(
            f"""{source}
            const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const engine = new Engine(bytes(arguments[0]), arguments[1], bytes(arguments[2]));
            const run = () => engine.run(bytes(arguments[3])).map((plane) => [...plane]);
            const first = run();
            return JSON.stringify(first) === JSON.stringify(run()) ? first : null;
            }})();""".replace("(() => {", "return (function () {", 1).replace(
                "})();", "}).apply(null, arguments);"
            ),
            code,
            about,
            base64.b64encode(weights).decode(),
            base64.b64encode(canvas_SxS.tobytes()).decode(),
        )
        return np.array(planes, np.float32).reshape(outputs, size, size).transpose(1, 2, 0)

    return run


@pytest.mark.parametrize("name", NETWORKS)
def test_engine_against_numpy(engine, name):
    config, size = NETWORKS[name]
    outputs = max(len(config.outputs), 1)
    members = [make_variables(config, size, seed) for seed in range(2 if name == "none" else 1)]
    planned = make_plan(config, members, size)
    canvas_SxS = np.random.default_rng(1).integers(0, 256, (size, size), np.uint8)
    found = engine(planned, size, outputs, len(members), canvas_SxS)
    np.testing.assert_allclose(found, run_plan(planned, canvas_SxS, size, outputs), atol=1e-5)
