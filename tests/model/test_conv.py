"""The convolution written for CPUs is XLA's own, forward and backward, whatever way it takes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.config import ModelConfig
from jaxlung.devices.mesh import batch_sharding, make_mesh
from jaxlung.model import build_model, conv

# Batch, height, width, channels, features: pairs of pixels, blocks of rows, odd sides, both wide.
SHAPES = [
    (2, 8, 12, 16, 16),
    (3, 16, 6, 32, 16),
    (2, 4, 4, 1, 9),
    (2, 8, 7, 12, 16),
    (2, 10, 4, 20, 7),
    (2, 8, 8, 16, 32),
    (1, 8, 8, 16, 16),
    (16, 4, 4, 16, 16),
]


def example(batch, height, width, channels, features, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shapes = (
        (batch, height, width, channels),
        (3, 3, channels, features),
        (batch, height, width, features),
    )
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def gradients(convolution, x, kernel, weights):
    return jax.grad(lambda x, kernel: (convolution(x, kernel) * weights).sum(), (0, 1))(x, kernel)


@jax.jit  # of the value and both gradients at once: compiling them apart takes most of the time
def results(x, kernel, weights):
    return conv.conv3x3(x, kernel), *gradients(conv.conv3x3, x, kernel, weights)


def reference(x, kernel, weights):
    """The convolution and its gradients in numpy: sums over the nine shifts."""
    x, kernel, weights = (np.asarray(a, np.float64) for a in (x, kernel, weights))
    height, width = x.shape[1:3]

    def shifts(image):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return {
            (a, b): padded[:, a : a + height, b : b + width] for a in range(3) for b in range(3)
        }

    y = sum(part @ kernel[place] for place, part in shifts(x).items())
    of_x = sum(part @ kernel[2 - a, 2 - b].T for (a, b), part in shifts(weights).items())
    of_kernel = np.zeros_like(kernel)
    for place, part in shifts(x).items():
        of_kernel[place] = np.tensordot(part, weights, axes=([0, 1, 2], [0, 1, 2]))
    return y, of_x, of_kernel


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_convolution_and_so_are_its_gradients(shape):
    arrays = example(*shape)
    for found, expected in zip(results(*arrays), reference(*arrays), strict=True):
        assert_close(found, expected)


def test_one_pixel_by_hand():
    x = np.zeros((2, 4, 4, 16), np.float32)
    x[0, 1, 2, 3] = 1
    kernel = example(2, 4, 4, 16, 16)[1]
    y = jax.jit(conv.conv3x3)(x, kernel)
    np.testing.assert_allclose(y[0, :3, 1:], kernel[::-1, ::-1, 3], rtol=1e-6)
    assert not y[1].any() and not y[0, 3].any() and not y[0, :, 0].any()


@pytest.mark.parametrize("gradient", [conv.by_padding, conv.by_blocks])
@pytest.mark.parametrize("shape", [(3, 8, 5, 4, 6), (1, 4, 4, 20, 3)])
def test_each_way_to_the_filter_gradient(gradient, shape):
    x, kernel, weights = example(*shape)
    assert_close(jax.jit(gradient)(x, weights), reference(x, kernel, weights)[2])


def test_gradient_of_a_gradient():
    x, kernel, weights = example(2, 8, 8, 32, 16)

    @jax.jit
    def second_derivatives(kernel):
        def squared_norm(convolution):
            return lambda kernel: (gradients(convolution, x, kernel**2, weights)[1] ** 2).sum()

        return [jax.grad(squared_norm(c))(kernel) for c in (conv.conv3x3, conv.by_xla)]

    assert_close(*second_derivatives(kernel))


@pytest.mark.parametrize("shape", [(4, 8, 8, 16, 16), (4, 8, 8, 32, 16)])
def test_split_over_devices(shape):
    x, kernel, weights = example(*shape)
    mesh = make_mesh(4)
    assert mesh.size == 2
    split = [jax.device_put(a, batch_sharding(mesh)) for a in (x, weights)]
    found = results(split[0], kernel, split[1])
    for part, expected in zip(found, reference(x, kernel, weights), strict=True):
        assert_close(part, expected)


def convolutions(function, *arrays, platform="cpu"):
    """Window strides of each convolution that a platform is given."""
    text = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    return ["stride = [1, 2]" in line for line in lines]


def test_cpus_alone_take_the_other_way():
    x, kernel, weights = example(2, 8, 8, 16, 16)
    assert convolutions(conv.conv3x3, x, kernel) == [True]
    wide = example(2, 8, 8, 32, 16)
    by_rows = convolutions(lambda *a: gradients(conv.conv3x3, *a)[1], *wide)
    assert len(by_rows) == conv.BLOCKS
    for platform in ("cuda", "tpu"):
        assert convolutions(conv.conv3x3, x, kernel, platform=platform) == [False]
        for arrays in (wide, (x, kernel, weights)):
            found = convolutions(lambda *a: gradients(conv.conv3x3, *a), *arrays, platform=platform)
            assert len(found) == 2 and not any(found)


@pytest.mark.parametrize(
    "shape", [(2, 8, 8, 16, 32), (2, 8, 8, 32, 16), (2, 8, 7, 16, 16), (1, 8, 8, 16, 16)]
)
def test_xlas_own_where_it_is_fast(shape):
    x, kernel, _ = example(*shape)
    assert convolutions(conv.conv3x3, x, kernel) == [False]


def test_bfloat16_stays_xlas_own():
    arrays = example(2, 8, 8, 32, 16, jnp.bfloat16)
    found = convolutions(lambda *a: gradients(conv.conv3x3, *a), *arrays)
    assert len(found) == 2 and not any(found)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_forward_mode_where_xlas_own_is_taken(dtype):
    features = 32 if dtype == jnp.float32 else 16
    x, kernel, _ = example(2, 4, 4, 16, features, dtype)

    @jax.jit
    def derivative_and_value(x):
        _, tangent = jax.jvp(lambda x: conv.conv3x3(x, kernel), (x,), (x,))
        return tangent.astype(jnp.float32), conv.by_xla(x, kernel).astype(jnp.float32)

    assert_close(*derivative_and_value(x))


def test_unet_takes_it():
    model = build_model(ModelConfig(width=16, depth=1, patch=1))
    image = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)
    assert sum(convolutions(model.apply, params, image)) == 3  # the finest level's


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_size": (1, 1)},
        {"strides": 2},
        {"padding": "VALID"},
        {"padding": 1},
        {"padding": "CIRCULAR"},
        {"input_dilation": 2},
        {"kernel_dilation": 2},
        {"feature_group_count": 2},
        {"precision": "highest"},
    ],
    ids=str,
)
def test_layers_that_are_no_plain_3x3_convolution_are_refused(changes):
    image = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)

    def init(**options):
        plain = {"kernel_size": (3, 3), "padding": "SAME"}
        layer = nn.Conv(4, **plain | options, conv_general_dilated=conv.for_flax)
        return jax.eval_shape(layer.init, jax.random.key(0), image)

    init()
    with pytest.raises(ValueError, match="plain 3x3 convolution, got"):
        init(**changes)
