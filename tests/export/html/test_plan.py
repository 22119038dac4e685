"""A plan computes what the network does, whatever its options; others are refused by name."""

import jax
import numpy as np
import pytest

from jaxlung.config import ModelConfig
from jaxlung.errors import InputError
from jaxlung.export.html.numpy_engine import run_plan
from jaxlung.export.html.plan import make_plan
from jaxlung.model import build_model, to_probability
from jaxlung.preprocess import normalize

NETWORKS = {
    "group": (ModelConfig(width=12, depth=2, patch=2, outputs=("lung", "heart")), 32),
    "batch": (ModelConfig(width=4, depth=1, patch=1, norm="batch", standardize=False), 16),
    "none": (ModelConfig(width=5, depth=2, patch=4, norm="none"), 32),
}


def make_variables(config, size, seed=0):
    """Parameters and statistics at random; kernels are float16, as they are kept."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        build_model(config).init, jax.random.key(0), np.zeros((1, size, size, 1), np.float32)
    )

    def draw(path, shape):
        spread = 1.4 / np.sqrt(np.prod(shape.shape[:-1])) if len(shape.shape) > 1 else 0.4
        values = rng.normal(0, spread, shape.shape).astype(np.float32)
        if path[-1].key in ("scale", "var"):
            return np.abs(values) + 0.5
        return values.astype(np.float16).astype(np.float32)

    return dict(jax.tree.map_with_path(draw, shapes))


@pytest.mark.parametrize("name", NETWORKS)
def test_plan_against_flax(name):
    config, size = NETWORKS[name]
    variables = make_variables(config, size)
    canvas_SxS = np.random.default_rng(1).integers(0, 256, (size, size), np.uint8)
    apply = jax.jit(build_model(config).apply)
    truth_SxSxC = np.asarray(to_probability(apply(variables, normalize(canvas_SxS[None]))))[0]
    plan = make_plan(config, [variables], size)
    found_SxSxC = run_plan(plan, canvas_SxS, size, truth_SxSxC.shape[-1])
    np.testing.assert_allclose(found_SxSxC, truth_SxSxC, atol=1e-5)
    assert np.ptp(truth_SxSxC) > 0.1  # it says something


def test_members_are_averaged():
    config, size = NETWORKS["none"]
    canvas_SxS = np.random.default_rng(1).integers(0, 256, (size, size), np.uint8)
    members = [make_variables(config, size, seed) for seed in (0, 1)]
    each = [run_plan(make_plan(config, [one], size), canvas_SxS, size, 1) for one in members]
    both = run_plan(make_plan(config, members, size), canvas_SxS, size, 1)
    np.testing.assert_allclose(both, np.mean(each, 0), atol=1e-6)


@pytest.mark.parametrize("option", ["attention", "residual"])
def test_refused_by_name(option):
    with pytest.raises(InputError, match=f"model.{option} is on"):
        make_plan(ModelConfig(**{option: True}), [], 256)


def test_more_memory_than_a_page_gets_is_refused():
    config = ModelConfig(width=64, depth=1, patch=1)
    variables = make_variables(config, 16)
    with pytest.raises(InputError, match="MiB of memory on a page, where 1024 are"):
        make_plan(config, [variables], 2048)
