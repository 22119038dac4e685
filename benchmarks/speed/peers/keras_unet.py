"""The same U-Net in Keras 3 on TensorFlow, as a Keras user writes it."""

import os

import numpy as np

from benchmarks.speed.peers.contender import Contender, Spec, example, groups_of

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
from keras import layers, ops  # noqa: E402


def keras_unet(spec: Spec, norm: str = "group") -> keras.Model:
    """`jaxlung.model.UNet` with a sigmoid, on [B, H, W, 1]; tests/whole/test_benchmarks.py."""

    def block(x, features: int):
        for _ in range(2):
            x = layers.Conv2D(
                features, 3, padding="same", use_bias=False, kernel_initializer="he_normal"
            )(x)
            group = layers.GroupNormalization(groups_of(features), epsilon=1e-6)
            x = (group if norm == "group" else layers.BatchNormalization())(x)
            x = layers.ReLU()(x)
        return x

    image = keras.Input((spec.size, spec.size, 1))
    mean, variance = ops.moments(image, (1, 2, 3), keepdims=True)
    x = (image - mean) * ops.rsqrt(variance + 1e-6)
    if spec.patch == 2:
        x = layers.Conv2D(spec.width, 2, strides=2)(x)
    skips = []
    for level in range(spec.depth):
        skips.append(x := block(x, spec.width * 2**level))
        x = layers.MaxPooling2D()(x)
    x = block(x, spec.width * 2**spec.depth)
    for level in reversed(range(spec.depth)):
        x = layers.Conv2DTranspose(spec.width * 2**level, 2, strides=2)(x)
        x = block(layers.Concatenate()([skips[level], x]), spec.width * 2**level)
    if spec.patch == 2:
        x = layers.Conv2DTranspose(1, 2, strides=2)(x)
    else:
        x = layers.Conv2D(1, 1)(x)
    # In float32 whatever the policy, as the loss.
    return keras.Model(image, layers.Activation("sigmoid", dtype="float32")(x))


def dice_loss(mask, probability):
    axes = (1, 2, 3)
    both = ops.sum(mask * probability, axes)
    return 1 - (2 * both + 1) / (ops.sum(mask, axes) + ops.sum(probability, axes) + 1)


def build(spec: Spec, mode: str) -> Contender:
    if spec.dtype == "bfloat16":
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    model = keras_unet(spec)
    model.compile(keras.optimizers.Adam(1e-3), dice_loss)
    image, mask = (array[..., None] for array in example(spec))

    def train() -> float:
        return float(model.train_on_batch(image, mask))

    def predict(image_BxSxS: np.ndarray) -> np.ndarray:
        return model.predict_on_batch(image_BxSxS[..., None])[..., 0]

    return Contender(train, predict)
