"""The network: its operators, its shapes, and what it must not depend on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.config import ModelConfig
from jaxlung.model import UNet, build_model, standardize, to_mask, to_probability
from jaxlung.model.layers import GroupNorm, UpConv, max_pool


def images(count=2, side=16, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((count, side, side, 1)), jnp.float32)


def tiny(**changes):
    return UNet(**{"width": 4, "depth": 2, "patch": 1, **changes})


def init(model, seed=0):
    """Variables of the model's shapes, drawn in numpy: compiling `init` takes seconds."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name, noise = path[-1].key, rng.normal(size=leaf.shape)
        if name == "kernel":
            noise *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            noise = (name in ("scale", "var")) + 0.1 * noise
        return jnp.asarray(noise, leaf.dtype)

    return jax.tree.map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), images(1)))


@pytest.fixture(scope="module")
def group():
    """A tiny group-norm network, its variables, and its compiled forward pass of two images."""
    model = tiny()
    return model, init(model), jax.jit(model.apply)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm_is_flax_group_norm(groups):
    """Value and every gradient, far from zero mean and unit variance."""
    rng = np.random.default_rng(0)
    x, weight = (jnp.asarray(rng.normal(3, 2, (2, 4, 6, 6)), jnp.float32) for _ in range(2))
    params = {"scale": jnp.asarray(rng.normal(size=6)), "bias": jnp.asarray(rng.normal(size=6))}

    def results(layer):
        def loss(params, x):
            return (layer.apply({"params": params}, x) * weight).sum()

        return layer.apply({"params": params}, x), jax.grad(loss, (0, 1))(params, x)

    layers = GroupNorm(groups), nn.GroupNorm(groups)
    ours, theirs = jax.jit(lambda: [results(layer) for layer in layers])()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


def test_group_norm_of_a_constant_is_its_bias():
    layer = GroupNorm(2)
    params = {"scale": jnp.ones(4), "bias": jnp.arange(4.0)}
    out = jax.jit(layer.apply)({"params": params}, jnp.full((1, 4, 4, 4), 7.0))
    np.testing.assert_allclose(out, np.broadcast_to(np.arange(4.0), out.shape), atol=2e-3)


def test_group_norm_in_bfloat16_counts_in_float32():
    """A small spread about a large mean: bfloat16's squares have no room for the variance."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(10, 0.3, (1, 32, 32, 4)), jnp.bfloat16)
    params = {"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}
    out = jax.jit(GroupNorm(2, "bfloat16").apply)(params, x)
    assert out.dtype == jnp.bfloat16
    expected = jax.jit(GroupNorm(2).apply)(params, np.asarray(x, np.float32))
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=0.02)


def test_equal_maxima_share_the_gradient():
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 4, 4, 2)))
    np.testing.assert_array_equal(gradient, np.full((1, 4, 4, 2), 0.25))


def test_max_pool_and_its_gradient_are_those_of_windows():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 4, 3)), jnp.float32)  # no ties
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 2, 3)), jnp.float32)

    def results(pool):
        return pool(x), jax.grad(lambda x: (pool(x) * weight).sum())(x)

    pools = max_pool, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))
    ours, windows = jax.jit(lambda: [results(pool) for pool in pools])()
    jax.tree.map(np.testing.assert_array_equal, ours, windows)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 4, 4)])
@pytest.mark.parametrize("f", [2, 4])
def test_upconv_is_a_transposed_convolution(shape, f):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(*shape, 6)), jnp.float32)
    layer = UpConv(3, factor=f)
    kernel = np.random.default_rng(1).normal(size=(6, f * f * 3)).astype(np.float32)
    bias = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
    params = {"blocks": {"kernel": kernel}, "bias": bias}
    # Flax's transposed convolution slides its kernel unflipped over the dilated input, so the
    # offset within an output block counts from the kernel's far end.
    kernel = kernel.reshape(6, f, f, 3).transpose(1, 2, 0, 3)[::-1, ::-1]
    reference = nn.ConvTranspose(3, (f, f), strides=(f, f))
    theirs = {"params": {"kernel": kernel, "bias": bias.reshape(3)}}
    expected = jax.jit(reference.apply)(theirs, x)
    out = jax.jit(layer.apply)({"params": params}, x)
    assert out.shape == (shape[0], f * shape[1], f * shape[2], 3)
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("patch", "depth", "norm", "dropout"),
    [
        (1, 1, "group", 0.0),
        (1, 2, "batch", 0.2),
        (1, 3, "none", 0.2),
        (2, 1, "none", 0.0),
        (2, 2, "group", 0.2),
        (2, 3, "batch", 0.0),
        (4, 2, "group", 0.0),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shapes_and_types(patch, depth, norm, dropout, dtype):
    config = ModelConfig(width=6, depth=depth, patch=patch, norm=norm, dropout=dropout, dtype=dtype)
    image = jax.ShapeDtypeStruct((3, 16, 48, 1), jnp.float32)
    init = build_model(config).init_with_output
    logits, variables = jax.eval_shape(init, jax.random.key(0), image)
    assert logits.shape == (3, 16, 48, 1) and logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert ("batch_stats" in variables) == (norm == "batch")
    kernel = variables["params"]["bottleneck_conv1"]["kernel"]
    assert kernel.shape == (3, 3, 6 * 2**depth, 6 * 2**depth)


def reference_unet(params, image, depth):
    """The network in numpy, for patch 1 and group norm."""

    def block(x, name):
        for i in range(2):
            kernel = params[f"{name}_conv{i}"]["kernel"]
            height, width = x.shape[1:3]
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = sum(
                padded[:, a : a + height, b : b + width] @ kernel[a, b]
                for a in range(3)
                for b in range(3)
            )
            groups = max(g for g in range(1, 9) if x.shape[-1] % g == 0)
            grouped = x.reshape(len(x), height * width, groups, -1)
            mean, variance = (f(grouped, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
            x = ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
            norm = params[f"{name}_norm{i}"]
            x = np.maximum(x * norm["scale"][None, None, None] + norm["bias"][None, None, None], 0)
        return x

    axes = (1, 2, 3)
    x = (image - image.mean(axes, keepdims=True)) / image.std(axes, keepdims=True)
    skips = []
    for level in range(depth):
        skips.append(block(x, f"encoder{level}"))
        batch, height, width, channels = skips[-1].shape
        x = skips[-1].reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    x = block(x, "bottleneck")
    for level in reversed(range(depth)):
        batch, height, width, channels = x.shape
        up = params[f"up{level}"]
        blocks = (x @ up["blocks"]["kernel"]).reshape(batch, height, width, 2, 2, -1)
        x = np.zeros((batch, 2 * height, 2 * width, blocks.shape[-1]))
        for a in range(2):
            for b in range(2):
                x[:, a::2, b::2] = blocks[:, :, :, a, b] + up["bias"][0]
        x = block(np.concatenate([skips[level], x], axis=-1), f"decoder{level}")
    return x @ params["head"]["kernel"][0, 0] + params["head"]["bias"][None, None, None]


@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_forward_pass_against_numpy(depth):
    model = tiny(width=6, depth=depth)
    variables = init(model)
    params = jax.tree.map(np.asarray, variables["params"])
    logits = jax.jit(model.apply)(variables, images())
    expected = reference_unet(params, np.asarray(images(), np.float64), depth)
    np.testing.assert_allclose(logits, expected, atol=2e-3 * np.abs(expected).max())


def test_residual_blocks_pass_their_input_on():
    """With every convolution at nought a block gives the ReLU of its (projected) input."""
    model = tiny(depth=1, patch=1, residual=True, norm="none", standardize=False)
    variables = init(model)
    assert variables["params"]["encoder0_shortcut"]["kernel"].shape == (1, 4)
    still = {
        name: jax.tree.map(np.zeros_like, part) if "_conv" in name else part
        for name, part in variables["params"].items()
    }
    apply = jax.jit(lambda params: model.apply(params, images(), capture_intermediates=True))
    logits, kept = jax.device_get(apply({"params": still}))
    shortcut = kept["intermediates"]["encoder0_shortcut"]["__call__"][0]
    skipped = kept["intermediates"]["up0"]["__call__"][0]
    both = np.concatenate([np.maximum(shortcut, 0), skipped], axis=-1)
    last = jax.device_get(variables["params"]["decoder0_shortcut"])
    decoder = np.maximum(both @ last["kernel"] + last["bias"][None, None, None], 0)
    head = jax.device_get(variables["params"]["head"])
    expected = decoder @ head["kernel"][0, 0] + head["bias"][None, None, None]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_closed_gates_take_the_skip_connections_away():
    """A gate's weight is of one pixel: shut, what the encoder's finest level shows is lost."""
    model = tiny(depth=1, patch=1, attention=True)
    params = init(model)["params"]
    shut = {**params, "gate0_out": {**params["gate0_out"], "bias": jnp.array([-1e4])}}
    kernel = params["decoder0_conv0"]["kernel"]
    without = {**params["decoder0_conv0"], "kernel": kernel.at[:, :, :4].set(0.0)}
    plain = {
        name: part
        for name, part in {**params, "decoder0_conv0": without}.items()
        if not name.startswith("gate")
    }
    np.testing.assert_allclose(
        jax.jit(model.apply)({"params": shut}, images()),
        jax.jit(tiny(depth=1, patch=1).apply)({"params": plain}, images()),
        atol=1e-5,
    )


def test_build_model_passes_every_field_on():
    config = ModelConfig(
        outputs=("heart",),
        width=3,
        depth=1,
        patch=1,
        norm="none",
        dropout=0.3,
        dtype="bfloat16",
        standardize=False,
        residual=True,
        attention=True,
    )
    model = build_model(config)
    for name, value in vars(config).items():
        assert getattr(model, name) == value
    # Without outputs, which `parse_config` fills in, a network marks the lung.
    expected = {**vars(ModelConfig()), "outputs": ("lung",)}
    for unet in (UNet(), build_model(ModelConfig())):
        assert {name: getattr(unet, name) for name in expected} == expected


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_parameter_count(norm):
    """By hand, for width 4, depth 1, patch 2."""
    image = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    model = tiny(depth=1, patch=2, norm=norm)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    blocks = [(4, 4), (4, 8), (8, 4)]  # (in, out) of encoder, bottleneck, decoder
    per_channel = 1 if norm == "none" else 2  # bias, or scale and bias
    expected = sum(9 * (i * o + o * o) + 2 * per_channel * o for i, o in blocks)
    expected += (4 * 1 * 4 + 4) + (8 * 4 * 4 + 4) + (4 * 4 * 1 + 1)  # stem, up, head
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize(
    ("patch", "depth", "shape"),
    [
        (1, 2, (1, 18, 16, 1)),
        (1, 2, (1, 16, 18, 1)),
        (2, 2, (1, 12, 16, 1)),
        (1, 2, (16, 16, 1)),
        (1, 2, (1, 1, 16, 16, 1)),
    ],
)
def test_wrong_side_is_refused(patch, depth, shape):
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(ValueError, match=str(patch * 2**depth)):
        jax.eval_shape(tiny(depth=depth, patch=patch).init, jax.random.key(0), image)


@pytest.mark.parametrize("norm", ["group", "none", "batch"])
def test_images_of_a_batch_do_not_touch_each_other(norm):
    model = tiny(norm=norm, depth=1)
    variables, apply = init(model), jax.jit(model.apply)
    image = images()
    before = apply(variables, image)
    after = apply(variables, image.at[1].set(images(seed=1)[0]))
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_logits_do_not_depend_on_brightness_and_contrast(group):
    _, variables, apply = group
    expected = apply(variables, images())
    assert np.abs(expected).max() > 0.1
    for contrast, brightness in [(0.5, 0.2), (0.3, 0.0), (1.0, -0.3), (2.0, 0.1)]:
        changed = apply(variables, contrast * images() + brightness)
        np.testing.assert_allclose(changed, expected, atol=1e-3)
    for inverted in (1 - images(), images() ** 2):
        assert np.abs(apply(variables, inverted) - expected).max() > 1e-2


def test_without_standardisation_they_do():
    model = tiny(standardize=False, norm="none", depth=1)
    variables, apply = init(model), jax.jit(model.apply)
    difference = apply(variables, 0.5 * images() + 0.2) - apply(variables, images())
    assert np.abs(difference).max() > 1e-2


def test_standardize_against_numpy():
    image = np.asarray(images(3)) * np.array([1, 0.1, 3]).reshape(3, 1, 1, 1).astype(np.float32)
    out = standardize(jnp.asarray(image))
    for i in range(3):
        expected = (image[i] - image[i].mean()) / image[i].std()
        np.testing.assert_allclose(out[i], expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_image_gives_finite_logits(group, value):
    _, variables, apply = group
    constant = jnp.full((2, 16, 16, 1), value)
    np.testing.assert_allclose(standardize(constant), 0, atol=1e-3)
    assert np.isfinite(apply(variables, constant)).all()


def test_constant_image_gives_finite_gradients():
    model = tiny(depth=1)
    constant = jnp.full((2, 16, 16, 1), 0.3)
    gradient = jax.jit(jax.grad(lambda v: (model.apply(v, constant) ** 2).sum()))(init(model))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "group", "patch": 2},
        {"norm": "batch"},
        {"norm": "none"},
        {"dtype": "bfloat16", "patch": 2},
        {"residual": True, "attention": True},
        *(
            pytest.param(changes, marks=pytest.mark.slow)  # a program each; those above have these
            for changes in ({"patch": 4}, {"residual": True}, {"attention": True})
        ),
    ],
    ids=str,
)
def test_gradient_reaches_every_parameter(changes):
    model = tiny(depth=1, **changes)
    variables = init(model)
    weights = jnp.asarray(np.random.default_rng(3).normal(size=(4, 16, 16, 1)), jnp.float32)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits, _ = model.apply(
            {**variables, "params": params},
            images(4),
            train=True,
            mutable=["batch_stats"],
        )
        return (weights * logits).sum()

    for path, leaf in jax.tree.leaves_with_path(gradient(variables["params"])):
        # Each input channel of a kernel by itself: half of a decoder's are the skip connection.
        channels = leaf.shape[-2] if path[-1].key == "kernel" else 1
        largest = np.abs(leaf).reshape(-1, channels, leaf.shape[-1]).max(axis=(0, 2))
        assert np.isfinite(leaf).all() and (largest > 0).all(), jax.tree_util.keystr(path)


def test_dropout_takes_whole_channels_and_only_in_training():
    model = tiny(dropout=0.5)
    variables = init(model)

    def apply(key, train):
        return model.apply(
            variables,
            images(),
            train=train,
            rngs={"dropout": key},
            capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
        )

    apply = jax.jit(apply, static_argnames="train")
    evaluated, kept = jax.device_get(apply(jax.random.key(0), train=False))
    again, _ = apply(jax.random.key(1), train=False)
    np.testing.assert_array_equal(again, evaluated)

    trained, dropped = jax.device_get(apply(jax.random.key(0), train=True))
    same, _ = apply(jax.random.key(0), train=True)
    other, _ = apply(jax.random.key(1), train=True)
    np.testing.assert_array_equal(same, trained)
    assert np.abs(other - trained).max() > 1e-3 and np.abs(trained - evaluated).max() > 1e-3

    # Two deepest levels: last encoder, bottleneck, first decoder.
    sides = sorted(
        out[0].shape[1] for leaf in kept["intermediates"].values() for out in leaf.values()
    )
    assert sides == [4, 8, 8]
    # Nothing before the first one is random, so its input is what it passes on in evaluation.
    before, after = (c["intermediates"]["Dropout_0"]["__call__"][0] for c in (kept, dropped))
    states = set()
    for i in range(before.shape[0]):
        for channel in range(before.shape[-1]):
            x, y = before[i, ..., channel], after[i, ..., channel]
            if (x > 0).any():
                factor = float(y.sum() / x.sum())
                np.testing.assert_allclose(y, factor * x, rtol=1e-5)
                states.add(round(factor, 4))
    assert states == {0.0, 2.0}


def test_batch_norm_learns_statistics_in_training_only():
    model = tiny(norm="batch", depth=1)
    variables = init(model)
    apply = jax.jit(
        lambda train: model.apply(variables, images(), train=train, mutable=["batch_stats"]),
        static_argnums=0,
    )
    for train in (False, True):
        _, updated = apply(train)
        changed = [
            bool((a != b).any())
            for a, b in zip(
                jax.tree.leaves(updated), jax.tree.leaves(variables["batch_stats"]), strict=True
            )
        ]
        assert all(changed) if train else not any(changed)


def test_bfloat16_is_close_to_float32(group):
    _, variables, apply = group
    logits = jax.jit(tiny(dtype="bfloat16").apply)(variables, images())
    expected = apply(variables, images())
    assert logits.dtype == jnp.float32
    difference = np.abs(logits - expected).max()
    assert 0 < difference < 0.1 * np.abs(expected).max()


def test_receptive_field_covers_the_image():
    """Every output depends on the far corner: the lungs' place in the image is visible."""
    model = tiny(norm="none", standardize=False)
    variables = init(model)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x)[0, 8, 8, 0]))(images(1))
    assert np.abs(gradient[0, :2, :2]).max() > 0 and np.abs(gradient[0, -2:, -2:]).max() > 0


def test_probability_and_mask():
    logits = jnp.array([-1000.0, -1.0, 0.0, 1.0, 1000.0]).reshape(1, 1, 5, 1)
    probability = to_probability(logits)
    assert probability.shape == (1, 1, 5, 1) and probability.dtype == jnp.float32
    expected = 1 / (1 + np.exp([[[np.inf, 1, 0, -1, -np.inf]]]))
    np.testing.assert_allclose(probability[..., 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(to_mask(probability)[..., 0], [[[0, 0, 1, 1, 1]]])


@pytest.mark.parametrize("library", [np, jnp])
def test_threshold_is_inclusive(library):
    probability = library.asarray(
        [0.25, np.nextafter(np.float32(0.5), 0), 0.5, 0.75, np.nan], np.float32
    )
    mask = to_mask(probability)
    assert mask.dtype == bool and isinstance(mask, type(probability))
    np.testing.assert_array_equal(mask, [False, False, True, True, False])
    np.testing.assert_array_equal(to_mask(probability, 0.25), [True, True, True, True, False])
    np.testing.assert_array_equal(to_mask(probability, 0.75), [False, False, False, True, False])
