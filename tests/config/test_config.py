"""Every field is checked by name, type and range, and no field can be forgotten."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import pytest

from configs import ensemble, tiny, unet, unet_large
from jaxlung.config import (
    Config,
    default_config,
    list_recipes,
    load_recipe,
    parse_config,
    parsing,
)
from jaxlung.errors import InputError
from jaxlung.model import build_model
from jaxlung.workdir.record import list_differences

FIELDS = {
    f"{section.name}.{field.name}": field
    for section in dataclasses.fields(Config)
    for field in dataclasses.fields(section.default)
}
DEFAULTS = {path: field.default for path, field in FIELDS.items()}
NUMBERS = {path for path, default in DEFAULTS.items() if type(default) in (int, float)}
RANGES = {
    path: FIELDS[path].metadata["range"] for path in NUMBERS if "range" in FIELDS[path].metadata
}
CHOICES = {
    path: field.metadata["choices"] for path, field in FIELDS.items() if "choices" in field.metadata
}
# Checked against the catalog, in tests/data/test_public.py.
FREE_TEXT = {"data.name", "data.dir", "data.patient_pattern", "data.split_file", "train.init_from"}


def values_with(path, value):
    section, field = path.split(".")
    return {section: {field: value}}


def assert_refused(path, value):
    with pytest.raises(InputError) as caught:
        parse_config(values_with(path, value))
    assert path in str(caught.value)


def another_value(path):
    """A valid value of a field that is not its default."""
    default = DEFAULTS[path]
    special = {
        "data.name": "montgomery+shenzhen",
        "data.weights": (1.0, 2.0),
        "data.size": 512,
        "data.folds": 3,
        "ensemble.learning_rates": (1e-3, 2e-3),
        "model.width": 18,
        "train.batch_size": 18,
        "model.depth": 3,
        "model.norm": "none",
        "loss.bce": 0.5,
        "model.outputs": ("heart", "right_lung", "left_lung"),
        "data.convention": "heart",
    }
    if path in special:
        return special[path]
    if path in CHOICES:
        return next(choice for choice in CHOICES[path] if choice != default)
    if path in FREE_TEXT:
        return f"other {path}"
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) else default * 0.75 + 0.01


def test_default_config_round_trips():
    filled = parse_config({})
    assert parse_config(default_config()) == parse_config(Config()) == filled
    assert parse_config(filled) == filled
    # `model.outputs` alone is filled in.
    assert list_differences(Config(), filled) == ["model.outputs: () -> ('lung',)"]


def test_config_with_every_field_changed_round_trips_and_lists_each():
    values = {section: {} for section in Config().to_dict()}
    # Public sets with a published split and folds refuse them: each has its turn below.
    alone = [
        "data.patient_pattern",
        "data.split_file",
        "data.validation_fraction",
        "data.test_fraction",
        "data.window_low",
        "data.window_high",
        "data.convention",
        *(path for path in DEFAULTS if path.startswith("ensemble.")),
    ]
    for path in DEFAULTS:
        section, field = path.split(".")
        values[section][field] = DEFAULTS[path] if path in alone else another_value(path)
    values["data"]["loader"] = "device"  # the only one that takes several steps in a call
    changed = parse_config(values)
    assert changed.to_dict() == values
    assert parse_config(json.loads(json.dumps(changed.to_dict()))) == changed
    filled = default_config()
    filled.update(values)
    assert parse_config(filled) == changed
    # Where the data lie and how they are fed cannot change a run; their fingerprint is checked.
    harmless = (
        "data.dir",
        "data.loader",
        "data.cache_gib",
        "train.steps_per_call",
        "model.remat",
        "train.checkpoint_steps",
        "train.skip_nonfinite",
        "mesh.data",
        "mesh.model",
        "mesh.space",
        "mesh.fsdp",
    )
    expected = [path for path in DEFAULTS if path not in (*harmless, *alone)]
    assert [line.split(":")[0] for line in list_differences(Config(), changed)] == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"loss": {"robust": 0.5}}, "loss.bce"),
        ({"loss": {"edge": 1.0}}, "loss.bce"),
        ({"loss": {"tversky": 0.3, "dice": 0.0, "bce": 1.0}}, "loss.dice"),
        ({"train": {"ema": 0.9}, "model": {"norm": "batch"}}, "train.ema"),
    ],
)
def test_settings_that_would_do_nothing_or_do_not_agree_are_refused(values, named):
    with pytest.raises(InputError, match=named):
        parse_config(values)


def test_differing_fields_says_old_and_new():
    new = parse_config({"model": {"width": 8}, "data": {"seed": 3}})
    old = parse_config({})
    assert list_differences(old, new) == ["data.seed: 0 -> 3", "model.width: 16 -> 8"]
    assert list_differences(new, new) == []
    for field, default, other, name in (
        ("patient_pattern", "", "(x)", "folder"),
        ("split_file", "", "(x)", "folder"),
        ("validation_fraction", 0.1, 0.2, "folder"),
        ("test_fraction", 0.2, 0.1, "folder"),
        ("fit", "letterbox", "stretch", "folder"),
        ("window_low", -1350.0, -1000.0, "ct"),
        ("window_high", 150.0, 200.0, "ct"),
    ):
        data = {"name": name, "dir": "d"}
        old, new = (parse_config({"data": data | more}) for more in ({}, {field: other}))
        assert list_differences(old, new) == [f"data.{field}: {default!r} -> {other!r}"]
    for field in Config().to_dict()["ensemble"]:  # one at most is not its default
        value = another_value(f"ensemble.{field}")
        old = parse_config({"data": {"folds": 3}})
        new = parse_config({"data": {"folds": 3}, "ensemble": {field: value}})
        default = DEFAULTS[f"ensemble.{field}"]
        assert list_differences(old, new) == [f"ensemble.{field}: {default!r} -> {value!r}"]
        assert parse_config(json.loads(json.dumps(new.to_dict()))) == new


@pytest.mark.parametrize(
    ("field", "values", "why"),
    [
        ("fit", {"fit": "stretch"}, "data.name='phantom'"),
        ("split_file", {"split_file": "lists.json"}, "data.name='phantom'"),
        ("patient_pattern", {"patient_pattern": "(x)"}, "data.name='phantom'"),
        ("validation_fraction", {"validation_fraction": 0.3}, "data.name='phantom'"),
        ("test_fraction", {"test_fraction": 0.3}, "data.name='phantom'"),
        ("window_low", {"window_low": -900.0, "name": "folder", "dir": "d"}, "data.name='folder'"),
        ("window_high", {"window_high": 90.0, "name": "montgomery"}, "data.name='montgomery'"),
        (
            "test_fraction",
            {"test_fraction": 0.3, "split_file": "s.json", "name": "ct", "dir": "d"},
            "data.name='ct', data.split_file='s.json'",
        ),
        (
            "validation_fraction",
            {"validation_fraction": 0.3, "folds": 5, "name": "folder", "dir": "d"},
            "data.name='folder', data.folds=5",
        ),
        (
            "validation_fraction",
            {"validation_fraction": 0.3, "split": "published", "name": "montgomery"},
            "data.name='montgomery', data.split='published'",
        ),
        (
            "test_fraction",
            {"test_fraction": 0.3, "split": "fold1", "name": "jsrt"},
            "data.name='jsrt', data.split='fold1'",
        ),
        (
            "allow_mixed_conventions",
            {"allow_mixed_conventions": True, "name": "jsrt"},
            "data.name='jsrt'",
        ),
    ],
)
def test_settings_of_data_without_effect_are_refused_by_name(field, values, why):
    with pytest.raises(InputError) as caught:
        parse_config({"data": values})
    words = f"data.{field}={values[field]!r} has no effect with {why}; leave it out"
    assert str(caught.value) == words


def test_post_processing_cannot_change_in_a_run():
    """It would have no effect there: predictions read the config that the run began with."""
    new = parse_config({"train": {"postprocess": False}})
    assert list_differences(parse_config({}), new) == ["train.postprocess: True -> False"]


def test_paths_of_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = parse_config(
        {
            "data": {"name": "folder", "dir": "~/films", "split_file": "~/lists.json"},
            "train": {"init_from": "~/runs/a"},
        }
    )
    assert config.data.dir == f"{tmp_path}/films"
    assert config.data.split_file == f"{tmp_path}/lists.json"
    assert config.train.init_from == f"{tmp_path}/runs/a"
    assert parse_config({"data": {"name": "folder", "dir": "x/~"}}).data.dir == "x/~"


def test_a_recipe_of_ones_own_starts_from_another(tmp_path):
    """By name, wherever it lies; a file that fails is named with its reason."""
    own = tmp_path / "own.py"
    own.write_text(
        "from jaxlung.config import load_recipe\n"
        "def get_config():\n"
        "    config = load_recipe('cxr')\n"
        "    config.train.num_epochs = 7\n"
        "    return config\n"
    )
    config = load_recipe(own)
    assert config.train.num_epochs == 7 and config.train.ema == load_recipe("cxr").train.ema > 0
    # A name is the package's, whatever lies beside; an edited copy goes by its path.
    (tmp_path / "cxr.py").write_text(own.read_text())
    assert load_recipe("cxr").train.num_epochs == 60
    own.write_text(
        "import pathlib\n"
        "from jaxlung.config import load_recipe\n"
        "def get_config(): return load_recipe(pathlib.Path(__file__).with_name('cxr.py'))\n"
    )
    assert load_recipe(own).train.num_epochs == 7
    for text, reason in (
        ("x = 1\n", "get_config' is missing"),
        ("def get_config(: 1\n", "line 1"),
        ("import no_such_module\n", "no_such_module"),
        ("def get_config(): return 3\n", "int"),
    ):
        own.write_text(text)
        with pytest.raises(InputError, match=f"^{own}: .*{reason}") as caught:
            load_recipe(own)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="^nope: no such recipe; name one of ct, cxr, ens"):
        load_recipe("nope")


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_valid(name):
    config = load_recipe(name)
    if config.data.name == "ct":
        config.data.dir = "d"
    parse_config(config)


def test_unknown_section_and_field():
    with pytest.raises(InputError, match="optimizer"):
        parse_config({"optimizer": {}})
    for section in Config().to_dict():
        assert_refused(f"{section}.lerning_rate", 1.0)


@pytest.mark.parametrize("value", [3, None, "text"])
def test_section_that_is_no_mapping(value):
    for section in Config().to_dict():
        with pytest.raises(InputError, match=section):
            parse_config({section: value})


@pytest.mark.parametrize("path", DEFAULTS)
def test_wrong_type(path):
    wrong = {
        bool: [0, 1, "True", None, 1.0],
        int: [True, False, "1", None, 1.0, [1]],
        float: [True, False, "1.0", None, [1.0], 1j],
        str: [0, True, None, b"text", ["text"]],
        tuple: [1.0, "1.0", None, (True,), ("1",), (0.0,)],
    }
    for value in wrong[type(DEFAULTS[path])]:
        assert_refused(path, value)


def test_int_is_accepted_for_float():
    rotation = parse_config({"augment": {"rotation": 10}}).augment.rotation
    assert rotation == 10.0 and type(rotation) is float


@pytest.mark.parametrize("path", sorted(RANGES))
def test_bounds_are_inclusive_and_nothing_beyond_is_accepted(path):
    low, high = RANGES[path]
    expected = type(DEFAULTS[path])
    for bound, outwards in ((low, -math.inf), (high, math.inf)):
        assert parsing._check_value(path, FIELDS[path], expected(bound)) == bound
        beyond = bound + int(math.copysign(1, outwards))
        assert_refused(path, beyond if expected is int else math.nextafter(bound, outwards))
    if expected is float:
        for value in (math.nan, math.inf, -math.inf):
            assert_refused(path, value)


@pytest.mark.parametrize("path", ["train.seed", "augment.rotation"])
def test_number_too_large_for_a_float(path):
    assert_refused(path, 10**400)


@pytest.mark.parametrize("path", CHOICES)
def test_choices(path):
    for value in CHOICES[path]:
        assert parsing._check_value(path, FIELDS[path], value) == value
    if isinstance(DEFAULTS[path], str):
        assert_refused(path, "neither")
        assert_refused(path, "")
        assert_refused(path, CHOICES[path][0].upper())
    else:
        assert_refused(path, max(CHOICES[path]) + 1)
        assert_refused(path, min(CHOICES[path]) - 1)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.threshold", 0.0),  # all lung
        ("train.threshold", 1.0),  # none
        ("train.batch_size", 0),
        ("train.num_epochs", 0),
        ("optim.learning_rate", 0.0),
        ("model.width", 0),
        ("model.depth", 0),
        ("model.dropout", 1.0),
        ("augment.scale", -0.1),
        ("data.phantom_train", 0),
        ("data.seed", -1),
    ],
)
def test_values_that_make_no_run(path, value):
    assert_refused(path, value)


def test_every_field_has_its_check_and_its_meaning():
    for path, field in FIELDS.items():
        kinds = {"range", "choices", "structures"} & set(field.metadata)
        if isinstance(field.default, bool) or path in FREE_TEXT:
            assert not kinds, path
        elif isinstance(field.default, str):
            assert kinds in ({"choices"}, {"structures"}), path
        elif isinstance(field.default, tuple):
            assert kinds in ({"range"}, {"structures"}), path
        else:
            assert len(kinds) == 1, path
        assert field.metadata["help"], path


def test_defaults_are_within_their_own_ranges():
    for path, default in DEFAULTS.items():
        assert parsing._check_value(path, FIELDS[path], default) == default


def test_section_defaults_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().data.size = 1


@pytest.mark.parametrize(("patch", "depth"), [(1, 1), (2, 3), (1, 4), (2, 4), (2, 5)])
def test_size_must_be_a_multiple(patch, depth):
    multiple = patch * 2**depth
    model = {"patch": patch, "depth": depth}
    assert (
        parse_config({"model": model, "data": {"size": 32 * multiple}}).data.size == 32 * multiple
    )
    for size in (32 * multiple + 1, 32 * multiple + multiple // 2, 32 * multiple - 1):
        with pytest.raises(InputError, match=rf"data\.size .* multiple of {multiple} "):
            parse_config({"model": model, "data": {"size": size}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"data": {"validation_fraction": 0.5, "test_fraction": 0.5}},
            ["data.validation_fraction", "data.test_fraction"],
        ),
        ({"loss": {"dice": 0.0, "bce": 0.0}}, ["loss.dice", "loss.bce"]),
        ({"data": {"name": "folder"}}, ["data.dir"]),
        ({"data": {"folds": 1}}, ["data.folds=1"]),
        ({"data": {"folds": 3, "fold": 3}}, ["data.fold=3", "data.folds=3"]),
        ({"data": {"fold": 1}}, ["data.fold=1", "data.folds=0"]),
        ({"data": {"folds": 3, "split_file": "s.json"}}, ["data.folds", "data.split_file"]),
        ({"ensemble": {"folds": True}}, ["ensemble.folds", "data.folds"]),
        ({"ensemble": {"folds": True}, "data": {"folds": 3, "fold": 1}}, ["data.fold=1"]),
        (
            {"ensemble": {"members": 2, "learning_rates": (0.1, 0.2)}},
            ["ensemble.members=2", "ensemble.learning_rates=(0.1, 0.2)"],
        ),
        ({"ensemble": {"learning_rates": (0.1,)}}, ["ensemble.learning_rates=(0.1,)"]),
        ({"ensemble": {"members": 2}, "train": {"seed": 2**31 - 1}}, ["train.seed"]),
    ],
)
def test_combinations(values, words):
    with pytest.raises(InputError) as caught:
        parse_config(values)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("module", [unet, unet_large, tiny, ensemble])
def test_config_files_parse(module):
    config = parse_config(module.get_config())
    assert module.get_config() is not module.get_config()  # a caller may change its own
    assert config.model == parse_config(module.get_config()).model


def test_learning_rates_are_each_in_range():
    for rate in (0.0, -1.0, 10.5, math.nan):
        with pytest.raises(InputError, match=r"ensemble\.learning_rates .* 1e-12 and 10"):
            parse_config({"ensemble": {"learning_rates": (1e-3, rate)}})


def test_unet_is_the_recipe():
    config = parse_config(unet.get_config())
    assert (config.data.size, config.train.batch_size, config.train.num_epochs) == (256, 16, 50)
    assert config.loss.dice == 1.0 and config.loss.bce == 0.0


def test_unet_large_has_31_million_parameters():
    config = parse_config(unet_large.get_config())
    image = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    variables = jax.eval_shape(build_model(config.model).init, jax.random.key(0), image)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == pytest.approx(31.0e6, rel=0.01)
