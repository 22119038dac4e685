"""Checks that fields of a config agree, after `parsing` has checked each by itself."""

import dataclasses

from jaxlung.catalog import CATALOG, FOLDERS, modality_of, set_names, taught_by
from jaxlung.config.settings import Config, DataConfig
from jaxlung.errors import InputError
from jaxlung.structures import mirror_name


def fill_outputs(config: Config) -> Config:
    """Gives a network without `model.outputs` the outputs that its data teach.

    These are the conventions of the sets or of the folder; a folder whose metadata.csv names
    several needs them named.
    """
    data = config.data
    if config.model.outputs:
        return config
    outputs = (data.convention,) if data.name == "folder" else taught_by(data.name)
    if data.allow_mixed_conventions:  # all teach what the first set marks
        outputs = outputs[:1]
    return dataclasses.replace(config, model=dataclasses.replace(config.model, outputs=outputs))


def check_combinations(config: Config) -> None:
    """Raises InputError, which names the fields, where fields do not go together."""
    multiple = config.model.patch * 2**config.model.depth
    if config.data.size % multiple:
        raise InputError(
            f"data.size must be a multiple of {multiple} "
            f"(model.patch x 2^model.depth), got {config.data.size}"
        )
    rows = config.mesh.space * multiple
    if config.data.size % rows:
        raise InputError(
            f"data.size={config.data.size} does not split into mesh.space={config.mesh.space} "
            f"strips of rows that the network can halve; use a multiple of {rows} "
            f"(mesh.space x model.patch x 2^model.depth)"
        )
    if config.train.batch_size % config.train.accumulate:
        raise InputError(
            f"train.batch_size={config.train.batch_size} does not divide into "
            f"train.accumulate={config.train.accumulate} parts; use a multiple"
        )
    if config.mesh.model > 1 and config.model.width % config.mesh.model:
        raise InputError(
            f"model.width={config.model.width} does not divide over "
            f"mesh.model={config.mesh.model} devices; use a multiple"
        )
    if config.data.name == "phantom" and config.data.size % 16:
        raise InputError(f"data.size must be a multiple of 16 for phantoms, got {config.data.size}")
    _check_sets(config.data)
    _check_outputs(config)
    _check_folds(config.data)
    _check_ensemble(config)
    if config.data.validation_fraction + config.data.test_fraction >= 1:
        raise InputError("data.validation_fraction + data.test_fraction must be below 1")
    if config.train.steps_per_call > 1 and config.data.loader != "device":
        raise InputError(
            f"train.steps_per_call={config.train.steps_per_call} needs data.loader='device', got "
            f"{config.data.loader!r}"
        )
    if config.loss.dice + config.loss.bce <= 0:
        raise InputError("loss.dice and loss.bce are both 0: there is nothing to minimise")
    if not config.loss.bce and (config.loss.robust or config.loss.edge):
        raise InputError(
            "loss.robust and loss.edge change the cross-entropy, but loss.bce is 0; set loss.bce"
        )
    if not config.loss.dice and config.loss.tversky != 0.5:
        raise InputError("loss.tversky changes the Dice loss, but loss.dice is 0; set loss.dice")
    if config.train.ema and config.model.norm == "batch":
        raise InputError(
            "train.ema averages parameters, with which batch statistics do not agree; set "
            "model.norm to 'group' or 'none', or train.ema to 0"
        )
    if config.data.window_low >= config.data.window_high:
        raise InputError("data.window_low must be below data.window_high")
    if config.data.name == "phantom" and config.data.dir:
        raise InputError(
            "data.dir is set, but data.name='phantom' is simulated and does not read it; set "
            "data.name=folder"
        )
    if config.data.name in FOLDERS and not config.data.dir:
        raise InputError("data.dir is empty: name the folder that holds images/ and masks/")
    _check_unused(config.data)


def _check_unused(data: DataConfig) -> None:
    """Refuses settings of data that would change nothing; recipes may set the sizes of phantoms."""
    reads, sets = data.name != "phantom", set_names(data.name)
    by_hash = reads and not data.split_file and data.split != "published"
    used = {
        "fit": reads,
        "split_file": reads,
        "patient_pattern": data.name in FOLDERS,
        "validation_fraction": by_hash and not data.folds,
        "test_fraction": by_hash and data.split == "hash",
        "convention": data.name == "folder",
        "allow_mixed_conventions": len(sets) > 1,
        "window_low": modality_of(data.name) == "ct",
        "window_high": modality_of(data.name) == "ct",
    }
    others = {name: getattr(data, name) for name in ("name", "split", "split_file", "folds")}
    for field, is_used in used.items():
        value = getattr(data, field)
        if not is_used and value != getattr(DataConfig, field):
            given = ", ".join(
                f"data.{name}={other!r}"
                for name, other in others.items()
                if name != field and (name == "name" or other != getattr(DataConfig, name))
            )
            raise InputError(f"data.{field}={value!r} has no effect with {given}; leave it out")


def _check_folds(data: DataConfig) -> None:
    if data.folds == 1:
        raise InputError("data.folds=1 leaves nothing to train on; use 2 or more, or 0 for none")
    if data.fold and data.fold >= data.folds:
        raise InputError(
            f"data.fold={data.fold} must be below data.folds={data.folds}: folds count from 0"
        )
    if data.folds and data.split_file:
        raise InputError(
            "data.folds and data.split_file both say what validates; leave one of them out"
        )


def _check_ensemble(config: "Config") -> None:
    ensemble, data = config.ensemble, config.data
    chosen = {
        f"ensemble.members={ensemble.members}": ensemble.members > 1,
        "ensemble.folds=True": ensemble.folds,
        f"ensemble.learning_rates={ensemble.learning_rates}": bool(ensemble.learning_rates),
    }
    named = [text for text, is_set in chosen.items() if is_set]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} each say what the members are; leave one")
    if ensemble.folds and not data.folds:
        raise InputError("ensemble.folds trains a member for each fold; set data.folds to how many")
    if ensemble.folds and data.fold:
        raise InputError(
            f"ensemble.folds trains every fold, data.fold={data.fold} names one; leave one out"
        )
    if len(ensemble.learning_rates) == 1:
        raise InputError(
            f"ensemble.learning_rates={ensemble.learning_rates} is of one member; name more, or "
            f"set optim.learning_rate"
        )
    last = config.train.seed + ensemble.members - 1
    if last >= 2**31:
        raise InputError(
            f"train.seed + ensemble.members - 1 is {last}; it must be below 2**31: lower train.seed"
        )


def _check_sets(data: DataConfig) -> None:
    names = set_names(data.name)
    if not names:
        for field, default in (("weights", ()), ("split", "hash")):
            if getattr(data, field) != default:
                raise InputError(f"data.{field} is for public sets, not data.name={data.name!r}")
        return
    if data.patient_pattern:
        raise InputError(f"data.patient_pattern is for folders: {data.name} tells its patients")
    if data.split_file and data.split != "hash":
        raise InputError(
            f"data.split={data.split!r} and data.split_file both say how to split; leave one out"
        )
    sets = [CATALOG[name] for name in names]
    if len({entry.modality for entry in sets}) > 1:
        raise InputError(
            f"data.name={data.name!r} joins X-rays and CT, which are trained on apart; name sets "
            f"of one kind"
        )
    if data.weights and len(data.weights) != len(names):
        raise InputError(f"data.weights has {len(data.weights)} numbers for {len(names)} sets")
    for entry in sets:
        for other in set(entry.same_images) & set(names):
            raise InputError(
                f"data.name={data.name!r}: {entry.name} holds the images of {other}; name one"
            )
        for other in set(entry.shared_images) & set(names):
            if not data.allow_shared_images:
                raise InputError(
                    f"data.name={data.name!r}: {entry.name} and {other} have images in common, so "
                    f"that one may train and test; name one, or set data.allow_shared_images to "
                    f"train on both all the same"
                )
    for entry in sets:
        if data.split == "published" and entry.published is None:
            raise InputError(f"data.split='published': no sizes are published for {entry.name}")
        if data.split.startswith("fold") and not entry.folds:
            raise InputError(f"data.split={data.split!r}: {entry.name} has no official folds")


def _check_outputs(config: Config) -> None:
    outputs, data = config.model.outputs, config.data
    for name in outputs:
        if mirror_name(name) not in outputs:
            raise InputError(
                f"model.outputs={outputs}: {name} becomes {mirror_name(name)} where an image is "
                f"mirrored; name both"
            )
    if data.allow_mixed_conventions:
        return
    for set_name in set_names(data.name):
        entry = CATALOG[set_name]
        marked = (entry.convention, *entry.others)
        if not set(marked) & set(outputs):
            raise InputError(
                f"data.name={data.name!r}: the masks of {set_name} mark {', '.join(marked)}, and "
                f"model.outputs={outputs} has none of these; name one in model.outputs"
            )
