"""Canvases are predicted alike wherever their parts run."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from jaxlung.predict import canvases as under_test
from tests.helpers.random_models import random_canvases, random_model

NETWORK = {"size": 16, "depth": 1, "outputs": ("heart", "left_lung", "right_lung")}


@pytest.fixture
def on_cores(monkeypatch):
    """Makes models as in a Python that no command started: its one device is four cores."""
    monkeypatch.setattr(under_test, "count_cores", lambda: 4)

    def make(**network):
        with monkeypatch.context() as context:
            context.setattr(jax, "local_devices", lambda: jax.devices()[:1])
            context.setattr(under_test, "is_count_given", lambda: False)
            return random_model(**NETWORK, **network).predict_canvases

    return make


@pytest.mark.parametrize(
    "network", [{"tta": False}, {"tta": True}, {"tta": True, "members": 2}], ids=str
)
def test_cores_give_what_devices_give(on_cores, network):
    in_threads, on_devices = on_cores(**network), random_model(**NETWORK, **network)
    for count in (1, 2, 3, 4):
        canvases = random_canvases(16, count)
        expected = on_devices.predict_canvases(canvases)
        for _ in range(2):  # one after another at first, then in threads
            np.testing.assert_allclose(in_threads(canvases), expected, atol=1e-5)


def test_one_image_and_its_mirror_image_are_a_batch_of_two(on_cores, monkeypatch):
    shapes = []
    jitted = under_test._jit_predict

    def watch(model, tta, several):
        compiled = jitted(model, tta, several)
        return lambda variables, image: (
            shapes.append((tta, len(image))) or compiled(variables, image)
        )

    monkeypatch.setattr(under_test, "_jit_predict", watch)
    predict = on_cores(tta=True)
    for count, expected in ((1, [(False, 1)] * 2), (2, [(False, 1)] * 4), (4, [(True, 1)] * 4)):
        shapes.clear()
        predict(random_canvases(16, count))
        assert shapes == expected


def test_parts_of_a_batch_run_at_once_but_compile_once(monkeypatch):
    pool = ThreadPoolExecutor(2)
    monkeypatch.setattr(under_test, "_threads", lambda: pool)
    run_parts = under_test._run_in_threads({})
    together, threads = threading.Barrier(2, timeout=60), set()

    def compiled(_, part):
        threads.add(threading.current_thread())
        if warm:
            together.wait()  # a part alone would wait in vain
        return part

    batch = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    for warm in (False, True):
        threads.clear()
        np.testing.assert_array_equal(run_parts(compiled, batch, 2), batch)
        assert (threads == {threading.current_thread()}) == (not warm)


def test_a_count_of_devices_that_is_given_is_kept(on_cores, monkeypatch):
    """As by JAX_NUM_CPU_DEVICES=1, or in an actor of Ray, of which there is one a core."""
    predict = on_cores(tta=False)
    started = []
    monkeypatch.setattr(under_test, "_run_in_threads", lambda variables: started.append(1))
    with monkeypatch.context() as context:
        context.setattr(jax, "local_devices", lambda: jax.devices()[:1])
        alone = random_model(**NETWORK, tta=False).predict_canvases  # conftest gives two
    canvases = random_canvases(16, 2)
    np.testing.assert_allclose(alone(canvases), predict(canvases), atol=1e-5)
    assert not started
