"""Every setting of a run with its default, its valid values and its meaning: the single definition.

A field's `metadata` holds `range` (inclusive low and high, for a number or for each number of a
tuple) or `choices`, and `help`, its meaning in a line. `path` marks a path, which may begin with ~,
and `structures` the name of a structure, or several.
"""

import dataclasses
from typing import Any, Literal, TypeVar

from jaxlung.catalog import modality_of
from jaxlung.structures import LUNG

T = TypeVar("T")


def setting(default: T, help: str, **limits: Any) -> T:
    """A field with a meaning; without limits it holds any text, or a switch."""
    field: T = dataclasses.field(default=default, metadata={"help": help, **limits})
    return field


def path_of(help: str) -> str:
    """A field that names a file or folder; "": none."""
    return setting("", help, path=True)


def between(default: T, low: float, high: float, help: str) -> T:
    """A field that holds a number from low to high, or a tuple of such numbers."""
    return setting(default, help, range=(low, high))


def structures(default: T, help: str) -> T:
    """A field that holds a structure's name, or several: see `jaxlung.structures`."""
    return setting(default, help, structures=True)


def one_of(default: T, choices: tuple[T, ...], help: str) -> T:
    """A field that holds one of the choices."""
    return setting(default, help, choices=choices)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images and masks come from, how they are split, and how they reach the network."""

    name: str = setting(
        "phantom",
        '"phantom": simulated radiographs; "folder": images/ and masks/ in dir; "ct": images/ and '
        'masks/; or a public set of `jaxlung data list`, or several, as in "montgomery+shenzhen"',
    )
    dir: str = path_of('folder, ct: where it is; public set: of TFDS, "": ~/tensorflow_datasets')
    weights: tuple[float, ...] = between(
        (), 1e-6, 1e6, "joined sets: shares of an epoch; (): by size"
    )
    convention: str = structures(LUNG, "folder: the structure that its masks mark")
    allow_mixed_conventions: bool = setting(
        False, "joined sets that differ in what they call lung all teach the first output"
    )
    allow_shared_images: bool = setting(False, "joined sets may have images in common")
    split: str = one_of("hash", ("hash", "published", "fold1", "fold2"), "public sets; folds: JSRT")
    size: int = between(256, 16, 8192, "side of the network's square canvas, pixels")
    # "letterbox" keeps the aspect and pads with 0; "stretch" fills the canvas.
    fit: str = one_of("letterbox", ("letterbox", "stretch"), "how an image comes onto the canvas")
    patient_pattern: str = setting("", 'folder: group 1 in a stem is the patient; "": the stem')
    split_file: str = path_of('JSON {"train": [ids], "validation": [...], "test": [...]}')
    # The two fractions count without split_file.
    validation_fraction: float = between(0.10, 0.001, 0.999, "share of patients, by hash")
    test_fraction: float = between(0.20, 0.001, 0.999, "share of patients, by hash")
    # Cross-validation: patients outside the test split fall into so many folds, by hash. One
    # validates and the others train, whatever validation_fraction is.
    folds: int = between(0, 0, 1000, "folds of cross-validation; 0: none")
    fold: int = between(0, 0, 999, "the one that validates, in 0 ... folds - 1")
    phantom_train: int = between(128, 1, 10**5, "phantom: images to train on")
    phantom_validation: int = between(32, 1, 10**5, "phantom: images to validate on")
    phantom_test: int = between(32, 1, 10**5, "phantom: images to test on")
    seed: int = between(0, 0, 2**31 - 1, "of the order in each epoch and of the phantoms")
    window_low: float = between(-1350.0, -2000, 4000, "ct: Hounsfield units shown as black")
    window_high: float = between(150.0, -2000, 4000, "ct: Hounsfield units shown as white")
    # "memory": from the cache, without TensorFlow; "tfdata": tf.data reads, batches and
    # prefetches; "auto": memory where the cache holds the split, else tfdata; "device": the
    # training split lies on the accelerator, which gathers its batches itself.
    loader: str = one_of("auto", ("auto", "tfdata", "memory", "device"), "all give equal batches")
    cache_gib: float = between(4.0, 0, 10**6, "a split above it is read anew each epoch, GiB")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How strongly training images are changed at random; 0 leaves a change out."""

    rotation: float = between(15.0, 0, 180, "degrees, uniform in +-")
    flip: float = between(0.5, 0, 1, "probability of a left-right flip")
    scale: float = between(0.2, 0, 4, "zoom, log-uniform in [1/(1+scale), 1+scale]")
    aspect: float = between(0.15, 0, 4, "width over height, log-uniform likewise")
    # As a film of other proportions than the canvas comes with bars.
    squeeze: float = between(0.0, 0, 4, "one side shrinks by up to 1+squeeze; half of the images")
    shift: float = between(0.08, 0, 1, "fraction of the canvas, uniform in +-, each axis")
    contrast: float = between(0.4, 0, 1, "factor about the image's mean, uniform in 1 +-")
    brightness: float = between(0.2, 0, 1, "added, uniform in +-")
    gamma: float = between(0.8, 0, 9, "exponent, log-uniform in [1/(1+gamma), 1+gamma]")
    # Above 0.05 the image folds over itself.
    elastic: float = between(0.0, 0, 0.05, "largest smooth displacement, fraction of the canvas")
    opacity: float = between(0.0, 0, 1, "probability of a bright ellipse in the lungs (disease)")
    shade: float = between(0.0, 0, 1, "smooth field of brightness, in +-")
    # Above 1.5 the Gaussian's tails are cut: `appearance.random_blur`.
    blur: float = between(0.0, 0, 1.5, "largest deviation of a Gaussian, pixels; half of images")
    noise: float = between(0.0, 0, 1, "largest standard deviation of a pixel; half of the images")
    invert: float = between(0.0, 0, 1, "probability of the negative")
    occlusion: float = between(0.0, 0, 1, "probability of each of three plain rectangles")
    # For CT whose data.window_low and window_high hold all that matters.
    window: float = between(0.0, 0, 1, "probability of another window on the grey values")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The U-Net; `jaxlung.model.UNet` has the same fields and, but for `outputs`, defaults."""

    # `parse_config` fills them in: see `jaxlung.config.checks.fill_outputs`.
    outputs: tuple[str, ...] = structures(
        (), "structures to mark, a channel each; (): what the data teach"
    )
    width: int = between(16, 1, 4096, "channels at the first level; doubled at each level below")
    depth: int = between(4, 1, 8, "number of 2x poolings")
    patch: int = one_of(2, (1, 2, 4), "side of the patch stem: features at 1/patch the resolution")
    norm: str = one_of("group", ("group", "batch", "none"), "normalisation after a convolution")
    # Through a 1x1 convolution where widths differ.
    residual: bool = setting(False, "blocks add their input to their output")
    attention: bool = setting(False, "gates on the skip connections (Oktay et al. 2018)")
    dropout: float = between(0.0, 0, 0.9, "rate, whole channels, in the two deepest levels")
    # bfloat16 is for accelerators. Parameters are float32 with both.
    dtype: str = one_of("float32", ("float32", "bfloat16"), "of the computation")
    # Saves memory on accelerators.
    remat: bool = setting(False, "compute blocks again in the backward pass")
    standardize: bool = setting(True, "bring each image to zero mean and unit variance first")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The keyword arguments of `jaxlung.losses.segmentation_loss`."""

    dice: float = between(1.0, 0, 1000, "weight of the soft Dice loss")
    bce: float = between(0.0, 0, 1000, "weight of the mean binary cross-entropy")
    # At 0 or 1 an empty or a full mask would cost nothing.
    tversky: float = between(0.5, 0.05, 0.95, "share of false positives in Dice; 0.5: Dice itself")
    smooth: float = between(1.0, 1e-3, 1e6, "pixels added in Dice, against empty masks")
    robust: float = between(0.0, 0, 1, "q of generalised cross-entropy in bce; 0: cross-entropy")
    edge: float = between(0.0, 0, 1000, "weight added in bce to pixels within 2 of an outline")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam with a linear warm-up and a cosine decay."""

    learning_rate: float = between(2e-3, 1e-12, 10, "Adam's peak")
    warmup_epochs: float = between(2.0, 0, 10**6, "linear, from 0")
    final_fraction: float = between(0.02, 0, 1, "cosine decay ends at this share of the peak")
    weight_decay: float = between(0.0, 0, 10, "above 0: AdamW, kernels only")
    clip_norm: float = between(1.0, 0, 10**6, "largest global gradient norm; 0: no clipping")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train and in what portions, and how the result is used."""

    batch_size: int = between(16, 1, 10**6, "global: over all devices")
    num_epochs: int = between(50, 1, 10**6, "at most; the schedule's length")
    patience: int = between(12, 0, 10**6, "epochs without a better validation Dice; 0: any")
    ema: float = between(0.0, 0, 0.999999, "decay of the parameters' average to evaluate; 0: none")
    init_from: str = path_of("a workdir, or a bundled model's name: parameters to start from")
    accumulate: int = between(1, 1, 10**6, "parts of a batch, one after another, to save memory")
    # For data.loader="device" on accelerators.
    steps_per_call: int = between(1, 1, 10**4, "updates in one dispatch")
    checkpoint_steps: int = between(0, 0, 10**9, "updates between saves; 0: after an epoch only")
    skip_nonfinite: int = between(3, 0, 10**6, "updates in a row that may be skipped, not finite")
    seed: int = between(0, 0, 2**31 - 1, "of the parameters, augmentation and dropout")
    # See `jaxlung.masks.postprocess.clean_up` for X-rays, `bodies.keep_lung_bodies` for scans.
    postprocess: bool = setting(True, "keep a mask's largest pieces, of lungs two; fill holes")
    threshold: float = between(0.5, 0.001, 0.999, "a mask holds probabilities of at least this")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Several members, trained by `train_ensemble`; at most one of the three fields is set."""

    members: int = between(1, 1, 1000, "how many; member i has train.seed + i")
    folds: bool = setting(False, "a member for each fold of data.folds: cross-validation")
    learning_rates: tuple[float, ...] = between((), 1e-12, 10, "a member for each")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How the devices share the work; see `jaxlung.devices.mesh`."""

    data: int = between(0, 0, 10**6, "devices a batch is split over; 0: all the others leave")
    model: int = between(1, 1, 10**6, "devices that each layer's channels are split over")
    space: int = between(1, 1, 10**6, "devices that each image's rows are split over")
    fsdp: bool = setting(False, 'split parameters and optimiser state over "data" too')

    @property
    def devices_per_image(self) -> int:
        """The number of devices that share the work on one image."""
        return self.model * self.space


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run, in sections."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    mesh: MeshConfig = MeshConfig()

    @property
    def modality(self) -> Literal["xray", "ct"]:
        """The kind of image that the model takes."""
        return modality_of(self.data.name)

    @property
    def keeps_lungs(self) -> bool:
        """Whether the mask of a single image is cleaned up by `postprocess.clean_up`."""
        return self.train.postprocess and self.modality == "xray"

    @property
    def is_ensemble(self) -> bool:
        """Whether the config asks for several members, which `train_ensemble` trains."""
        return self.ensemble != EnsembleConfig()

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as a dict of sections, each a dict of fields."""
        return dataclasses.asdict(self)
