"""Every setting of a run, with its default and its meaning: the single definition."""

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    # "phantom": simulated radiographs; "folder": images/ and masks/ in dir; "ct": volumes/ and
    # masks/; or a public set of `jaxlung data list`, or several, as in "montgomery+shenzhen"
    name: str = "phantom"
    dir: str = ""  # folder: where it is; public set: of TFDS's data, "": ~/tensorflow_datasets
    weights: tuple[float, ...] = ()  # of joined sets: shares of an epoch's visits; (): by size
    allow_mixed_conventions: bool = False  # joined sets may differ in what they call lung
    split: str = "hash"  # public sets: "hash", "published" (sizes), or JSRT's "fold1", "fold2"
    size: int = 256  # the network's square canvas, pixels
    fit: str = "letterbox"  # "letterbox" keeps the aspect and pads with 0; "stretch" fills
    patient_pattern: str = ""  # folder: regex whose group 1 in a stem is the patient; "": the stem
    split_file: str = ""  # JSON {"train": [ids], "validation": [...], "test": [...]}
    validation_fraction: float = 0.10  # share of patients, by hash, without split_file
    test_fraction: float = 0.20
    # Cross-validation: patients outside the test split fall into so many folds, by hash, of which
    # one validates and the others train, whatever validation_fraction is; 0: none
    folds: int = 0
    fold: int = 0  # the one that validates, in 0 ... folds - 1
    phantom_train: int = 128  # phantom: how many of each
    phantom_validation: int = 32
    phantom_test: int = 32
    seed: int = 0  # of the epochs' order and of the phantoms
    window_low: float = -1350.0  # ct: Hounsfield units shown as black; the usual lung window
    window_high: float = 150.0  # ct: as white
    # All give the same batches. "memory": from the cache, without TensorFlow; "tfdata": tf.data
    # reads, batches and prefetches; "auto": memory where the cache holds the split, else tfdata;
    # "device": the training split lies on the accelerator, which gathers its batches itself
    loader: str = "auto"
    cache_gib: float = 4.0  # a split above this many GiB is read anew each epoch, not cached


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    rotation: float = 15.0  # degrees, uniform in +-
    flip: float = 0.5  # probability of a left-right flip
    scale: float = 0.2  # zoom, log-uniform in [1/(1+scale), 1+scale]
    aspect: float = 0.15  # width over height, log-uniform likewise
    shift: float = 0.08  # fraction of the canvas, uniform in +-, each axis
    contrast: float = 0.4  # factor about the image's mean, uniform in 1 +-
    brightness: float = 0.2  # added, uniform in +-
    gamma: float = 0.8  # exponent, log-uniform in [1/(1+gamma), 1+gamma]
    elastic: float = 0.0  # smooth displacement, fraction of the canvas, up to
    opacity: float = 0.0  # probability of a bright ellipse over the lungs: consolidation, effusion
    shade: float = 0.0  # smooth field of brightness, in +-
    blur: float = 0.0  # Gaussian's standard deviation, pixels, up to, on half of the images
    noise: float = 0.0  # each pixel's standard deviation, up to, on half of the images
    invert: float = 0.0  # probability of the negative
    occlusion: float = 0.0  # probability of each of three plain rectangles


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    width: int = 16  # channels at the first level; doubled at each level below
    depth: int = 4  # number of 2x poolings
    patch: int = 2  # side of the patch stem: features at 1/patch of the resolution; 1, 2 or 4
    norm: str = "group"  # "group", "batch" or "none"
    residual: bool = False  # blocks add their input, by a 1x1 convolution where widths differ
    attention: bool = False  # gates on the skip connections (Oktay et al. 2018)
    dropout: float = 0.0  # rate, whole channels, in the two deepest levels
    dtype: str = "float32"  # of the computation; "bfloat16" on accelerators. Parameters: float32
    remat: bool = False  # recompute blocks in the backward pass: less memory, on accelerators
    standardize: bool = True  # zero mean and unit variance of each image, as the first operation


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    dice: float = 1.0  # weight of the soft Dice loss
    bce: float = 0.0  # weight of the mean binary cross-entropy
    tversky: float = 0.5  # share of false positives in the Dice loss's denominator; 0.5: Dice
    robust: float = 0.0  # q of generalised cross-entropy in bce's place; 0: cross-entropy itself
    edge: float = 0.0  # weight added in bce to pixels within 2 of an outline


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    learning_rate: float = 2e-3  # Adam's peak
    warmup_epochs: float = 2.0  # linear, from 0
    final_fraction: float = 0.02  # cosine decay ends at this share of the peak
    weight_decay: float = 0.0  # > 0: AdamW, kernels only
    clip_norm: float = 1.0  # global gradient norm; 0: no clipping


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    batch_size: int = 16  # global: over all devices
    num_epochs: int = 50  # at most; the schedule's length
    patience: int = 12  # epochs without a better validation Dice before stopping; 0: never
    ema: float = 0.0  # decay of the parameters' moving average, which is evaluated; 0: none
    init_from: str = ""  # a workdir whose best parameters training starts from
    accumulate: int = 1  # parts of a batch done one after another, in as much less memory
    steps_per_call: int = 1  # updates in one dispatch, for data.loader="device" on accelerators
    checkpoint_steps: int = 0  # also saved every so many updates; 0: after each epoch alone
    skip_nonfinite: int = 3  # updates in a row that may be skipped, as not finite, before stopping
    seed: int = 0  # of the parameters, augmentation and dropout
    postprocess: bool = True  # X-rays: predictions keep two pieces at most, with holes filled
    threshold: float = 0.5  # a pixel is lung where its probability is at least this


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    # Trained at once by `train_ensemble`; at most one of the three
    members: int = 1  # member i has train.seed + i
    folds: bool = False  # a member for each fold of data.folds: cross-validation
    learning_rates: tuple[float, ...] = ()  # a member for each, in optim.learning_rate's place


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    data: int = 0  # devices that a batch is split over; 0: all that the other axes leave
    model: int = 1  # that each layer's channels are split over
    space: int = 1  # that each image's rows are split over
    fsdp: bool = False  # parameters and optimiser state are split over "data" too, not copied


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
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
        """What the model sees: "xray" or "ct"."""
        return "ct" if self.data.name == "ct" else "xray"

    @property
    def keeps_lungs(self) -> bool:
        """Whether predictions are reduced to lungs by `postprocess.keep_lungs`."""
        return self.train.postprocess and self.modality == "xray"

    @property
    def is_ensemble(self) -> bool:
        """Whether it asks for several members, which `train_ensemble` trains."""
        return self.ensemble != EnsembleConfig()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
