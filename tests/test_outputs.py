"""Several outputs, partly labelled: what is not labelled teaches nothing and scores nothing."""

import dataclasses
import functools
import json
import shutil

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxlung
from jaxlung import steps
from jaxlung.augmentation import augment
from jaxlung.cli.flags import read_config
from jaxlung.config import AugmentConfig, parse_config
from jaxlung.data.canvases import check_canvases, make_canvases
from jaxlung.data.folder import load_folder
from jaxlung.data.splits import Example, Split, select_examples
from jaxlung.errors import InputError
from jaxlung.evaluation import plots
from jaxlung.evaluation.evaluate import _plan, evaluate
from jaxlung.evaluation.model_scores import Task, score_split
from jaxlung.forward import predict_step
from jaxlung.metrics import Counts
from jaxlung.model import UNet
from jaxlung.phantom import radiographs
from jaxlung.predict.batch.models import models_of
from jaxlung.predict.batch.outputs import Options
from jaxlung.predict.batch.run import run_batch
from jaxlung.predict.batch.sources import find_sources
from jaxlung.structures import mirror_order
from jaxlung.train.data import prepare_data
from jaxlung.train.loop import train_and_evaluate
from jaxlung.train.validation import Scores

SIDED = ("lung", "right_lung", "left_lung")
PLAIN = AugmentConfig(
    rotation=0.0,
    flip=0.0,
    scale=0.0,
    aspect=0.0,
    shift=0.0,
    contrast=0.0,
    brightness=0.0,
    gamma=0.0,
)


def make_batch(labelled, size=16, seed=0):
    labelled_BxC = np.array(labelled)
    count, outputs = labelled_BxC.shape
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, size, size), np.uint8),
        "mask": 255 * rng.integers(0, 2, (count, size, size, outputs), np.uint8),
        "labelled": labelled_BxC,
    }


@functools.cache
def compiled(outputs=("lung", "heart")):
    recipe = steps.Recipe(
        UNet(outputs=outputs, width=2, depth=1, patch=1),
        optax.sgd(0.1),
        augment=PLAIN,
        mirror=mirror_order(outputs),
    )
    init = functools.partial(steps.init_state, recipe=recipe, size=16)
    state = jax.jit(init)(jax.random.key(0))
    train = jax.jit(functools.partial(steps.train_step, recipe=recipe))
    evaluate_step = jax.jit(functools.partial(steps.eval_step, recipe=recipe))
    return state, train, evaluate_step


def leaves_of(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


def test_a_mask_that_is_not_labelled_teaches_nothing():
    state, train, _ = compiled()
    batch = make_batch([[True, False], [False, True]])
    other = {**batch, "mask": batch["mask"].copy()}
    other["mask"][0, ..., 1] ^= 255
    other["mask"][1, ..., 0] ^= 255
    moved, same = (train(state, one, jax.random.key(1))[0] for one in (batch, other))
    for before, a, b in zip(leaves_of(state), leaves_of(moved), leaves_of(same), strict=True):
        np.testing.assert_array_equal(a, b)
        assert before.shape == a.shape
    assert any((a != b).any() for a, b in zip(leaves_of(state), leaves_of(moved), strict=True))


def test_an_output_that_no_image_labels_keeps_its_channel():
    state, train, _ = compiled()
    head = state.params["head"]["kernel"]
    moved, _ = train(state, make_batch([[True, False]] * 2), jax.random.key(1))
    np.testing.assert_array_equal(moved.params["head"]["kernel"][..., 1], head[..., 1])
    assert (moved.params["head"]["kernel"][..., 0] != head[..., 0]).any()


def test_the_loss_is_the_mean_over_what_each_image_labels():
    state, _, evaluate_step = compiled()

    def losses(labelled):
        batch = make_batch(labelled) | {"valid": np.array([True, True])}
        return np.asarray(evaluate_step(state.variables, batch)["loss"])

    both = losses([[True, True]] * 2)
    first, second = losses([[True, False]] * 2), losses([[False, True]] * 2)
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-6)
    np.testing.assert_allclose(losses([[True, False], [False, True]]), [first[0], second[1]])
    np.testing.assert_array_equal(losses([[False, False]] * 2), [0, 0])


def test_counts_are_of_each_output():
    state, _, evaluate_step = compiled()
    batch = make_batch([[True, True]] * 2) | {"valid": np.array([True, True])}
    counts = evaluate_step(state.variables, batch)["counts"]
    assert counts.tp.shape == (2, 2)
    lung = np.asarray(counts.tp + counts.fn)
    np.testing.assert_array_equal(lung, (batch["mask"] > 0).sum((1, 2)))


def test_a_flip_exchanges_left_and_right():
    """Each output still marks its own half, whichever way the image lies."""
    image = np.zeros((8, 16, 16, 1), np.float32)
    image[:, :, :8] = 1.0  # the patient's right is bright
    masks = np.concatenate([np.ones_like(image), image, 1 - image], axis=-1)
    flip = jax.jit(augment, static_argnums=(3, 4))
    changes = AugmentConfig(**{**vars(PLAIN), "flip": 0.5})
    moved, moved_masks = flip(jax.random.key(0), image, masks, changes, mirror_order(SIDED))
    flipped_B = np.asarray(moved)[:, 0, 0, 0] == 0
    assert 0 < flipped_B.sum() < 8
    left_half = np.zeros((16, 16), bool)
    left_half[:, :8] = True
    for i in range(8):
        # "right" is the side of the picture's left, mirrored or not.
        np.testing.assert_array_equal(np.asarray(moved_masks)[i, ..., 1] > 0.5, left_half)
        np.testing.assert_array_equal(np.asarray(moved_masks)[i, ..., 2] > 0.5, ~left_half)
    unsided = flip(jax.random.key(0), image, masks, changes, (0, 1, 2))[1]
    np.testing.assert_array_equal(unsided[..., 1] > 0.5, np.asarray(moved)[..., 0] > 0.5)


def test_the_mirror_image_gives_the_mirrored_masks_with_sides_exchanged():
    model = UNet(outputs=SIDED, width=2, depth=1, patch=1)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    predict = jax.jit(
        functools.partial(predict_step, model=model, tta=True, mirror=mirror_order(SIDED))
    )
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8)
    plain, mirrored = predict(variables, image), predict(variables, image[:, :, ::-1])
    swapped = np.asarray(mirrored)[:, :, ::-1][..., [0, 2, 1]]
    np.testing.assert_allclose(plain, swapped, atol=1e-6)


def test_validation_gives_each_output_its_own_mean():
    wrong_3x2 = np.array([[2, 7], [4, 1], [0, 5]])
    counts = Counts(np.array([[8, 0], [6, 9], [4, 5]]), wrong_3x2, wrong_3x2, np.zeros((3, 2), int))
    labelled = np.array([[True, False], [True, True], [False, True]])
    scores = Scores(np.zeros(3, np.float32), counts, labelled, ("lung", "heart")).means()
    lung, heart = (0.8 + 0.6) / 2, (0.9 + 0.5) / 2
    assert scores["dice_lung"] == pytest.approx(lung)
    assert scores["dice_heart"] == pytest.approx(heart)
    assert scores["dice"] == pytest.approx((lung + heart) / 2)


def test_the_default_outputs_are_what_the_data_teach():
    assert parse_config({}).model.outputs == ("lung",)
    folder = {"name": "folder", "dir": "films", "convention": "lung_and_heart"}
    assert parse_config({"data": folder}).model.outputs == ("lung_and_heart",)
    both = {"data": folder, "model": {"outputs": "lung,lung_and_heart"}}
    assert parse_config(both).model.outputs == ("lung", "lung_and_heart")
    flag = read_config("unet", ["--config.model.outputs=lung,heart"])
    assert flag.model.outputs == ("lung", "heart")
    for bad in ("", "Lung", ("lung", "lung"), (1,)):
        with pytest.raises(InputError, match=r"model\.outputs"):
            parse_config({"model": {"outputs": bad}})


def test_outputs_that_are_given_stay_as_they_are():
    """The lung alone, too, which is what most data teach."""
    hearts = {"name": "folder", "dir": "films", "convention": "lung_and_heart"}
    both = {"name": "montgomery+covid_cxr_lung_and_heart"}
    for data, taught in ((hearts, ("lung_and_heart",)), (both, ("lung", "lung_and_heart"))):
        for none in ({}, {"outputs": ()}, {"outputs": []}):  # a run before outputs has no field
            config = parse_config({"data": data, "model": none})
            assert config.model.outputs == taught
            # As a run keeps it, and reads it again.
            stored = json.loads(json.dumps(config.to_dict()))
            assert stored["model"]["outputs"] == list(taught)
            assert parse_config(stored) == config
        for lung in ("lung", ("lung",), ["lung"]):
            config = parse_config({"data": data, "model": {"outputs": lung}})
            assert config.model.outputs == ("lung",)
            assert parse_config(json.loads(json.dumps(config.to_dict()))) == config
    flags = [f"--config.data.{name}={value}" for name, value in hearts.items()]
    assert read_config("unet", flags).model.outputs == ("lung_and_heart",)
    flags.append("--config.model.outputs=lung")
    assert read_config("unet", flags).model.outputs == ("lung",)
    with pytest.raises(InputError, match="masks of kermany_v7 mark lung_and_heart, and model.outp"):
        parse_config({"data": {"name": "kermany_v7"}, "model": {"outputs": ("lung",)}})


def test_a_run_keeps_the_outputs_that_it_was_trained_with(workdir):
    assert json.loads((workdir / "config.json").read_text())["model"]["outputs"] == ["lung"]


@pytest.fixture(scope="module")
def two_conventions(tmp_path_factory):
    """Phantoms whose second half counts the space between the lungs as lung."""
    folder = tmp_path_factory.mktemp("films")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    images, masks = radiographs(jax.random.key(0), 72, size=64)
    rows = ["id,convention"]
    for i, (image, mask) in enumerate(zip(np.asarray(images), np.asarray(masks), strict=True)):
        mask = np.ascontiguousarray(mask > 0).astype(np.uint8)
        if i % 2:
            mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((1, 41), np.uint8))
        cv2.imwrite(str(folder / "images" / f"{i:02d}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{i:02d}.png"), mask * 255)
        rows.append(f"{i:02d},{'lung_and_heart' if i % 2 else ''}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return folder


def test_a_folder_of_two_conventions_labels_one_output_each(two_conventions):
    outputs = ("lung", "lung_and_heart")
    whole = load_folder(two_conventions)
    canvases = make_canvases(whole, size=32, fit="stretch", outputs=outputs)
    for i in range(4):
        _, mask_SxSx2, labelled_2 = canvases.read(i)
        assert labelled_2.tolist() == [i % 2 == 0, i % 2 == 1]
        assert mask_SxSx2[..., i % 2].any() and not mask_SxSx2[..., 1 - i % 2].any()
    with pytest.raises(InputError, match=r"marks lung_and_heart, and model\.outputs=\('lung',\)"):
        make_canvases(whole, size=32, fit="stretch").read(1)


def test_a_folder_may_hold_masks_of_further_structures(two_conventions, tmp_path):
    for name in ("images", "masks"):
        shutil.copytree(two_conventions / name, tmp_path / name)
    (tmp_path / "masks_heart").mkdir()
    heart = np.zeros((64, 64), np.uint8)
    heart[30:50, 24:44] = 255
    cv2.imwrite(str(tmp_path / "masks_heart" / "00.png"), heart)
    (tmp_path / "masks_Before correction").mkdir()  # no structure's name
    whole = load_folder(tmp_path)
    assert whole.labels_of(0) == ("lung", "heart") and whole.labels_of(1) == ("lung",)
    canvases = make_canvases(whole, size=64, fit="stretch", outputs=("heart", "lung"))
    _, mask_SxSx2, labelled_2 = canvases.read(0)
    assert labelled_2.all()
    np.testing.assert_array_equal(mask_SxSx2[..., 0], heart)
    assert canvases.read(1).labelled_C.tolist() == [False, True]


@pytest.fixture
def with_hearts(two_conventions, tmp_path):
    """The films and masks, and hearts of the first three; a function writes more."""
    for name in ("images", "masks"):
        shutil.copytree(two_conventions / name, tmp_path / name)
    heart = np.zeros((64, 64), np.uint8)
    heart[30:50, 24:44] = 255

    def write(name, mask=heart, folder="masks_heart"):
        (tmp_path / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / name), mask)
        return heart

    for i in range(3):
        write(f"{i:02d}.png")
    return tmp_path, write


def test_an_error_of_a_further_mask_names_its_file(with_hearts):
    folder, write = with_hearts
    heart = write("01.png")[:40]
    write("01.png", heart)
    write("00.png", np.zeros((64, 64), np.uint8))
    write("02.png", np.full((64, 64), 255, np.uint8))
    write("03.png", heart, "masks_left_lung")
    (folder / "masks_heart" / "04.png").write_bytes(b"damaged")
    options = {"size": 64, "fit": "stretch", "reject_empty": True}
    canvases = make_canvases(load_folder(folder), outputs=("heart", *SIDED), **options)
    for name, said in (
        ("masks_heart/00.png", r"this mask of the all split is empty \(no heart pixel\)"),
        ("masks_heart/01.png", r"is 40x64 but its image 01.png is 64x64 \(height x width\)"),
        ("masks_heart/02.png", "this mask of the all split marks the whole image as heart"),
        ("masks_left_lung/03.png", "is 40x64 but its image 03.png"),
        ("masks_heart/04.png", ""),
    ):
        with pytest.raises(InputError, match=f"^{folder}/{name}: {said}"):
            canvases.read(int(name[-6:-4]))


def test_a_changed_further_mask_is_a_change_of_those_that_learn_it(with_hearts):
    """Of a large split, whose files are known by their sizes."""
    folder, write = with_hearts
    write("00.png", folder="masks_old")

    def stats(outputs):
        split = select_examples(load_folder(folder), ["02", "00"], "train")
        canvases = make_canvases(split, size=16, fit="stretch", outputs=outputs)
        return check_canvases(canvases, limit=1, sample=1)

    lung, both = stats(("lung",)), stats(("lung", "heart"))
    sizes = [(folder / name / "00.png").stat().st_size for name in ("images", "masks")]
    assert lung["00"] == f"{sizes[0]}:{sizes[1]} bytes"  # as before there were other folders
    assert both["00"].startswith(f"{lung['00']}, heart ")
    write("00.png", np.eye(64, dtype=np.uint8) * 255)
    write("00.png", np.eye(64, dtype=np.uint8) * 255, "masks_old")
    changed = stats(("lung", "heart"))
    assert changed["00"] != both["00"] and changed["02"] == both["02"]
    assert stats(("lung",)) == lung


def test_a_folder_of_masks_that_no_output_names_is_passed_over_with_a_note(with_hearts, capsys):
    folder, write = with_hearts
    for name in ("00.png", "00.bmp"):  # one stem
        write(name, folder="masks_old")
    (folder / "masks_Before correction").mkdir()
    (folder / "masks_notes.txt").write_text("no folder")

    def prepare(*outputs):
        data = {"name": "folder", "dir": str(folder), "size": 32}
        config = {"data": data, "model": {"outputs": outputs}, "train": {"batch_size": 4}}
        prepare_data(parse_config(config))
        return capsys.readouterr().out

    unread = "masks_Before correction/, masks_heart/, masks_old/ passed over, as model.outputs="
    assert prepare("lung") == f"{folder}: {unread}('lung',) names no such structure\n"
    with pytest.raises(InputError, match="masks_old/00.png: same stem as 00.bmp; keep one"):
        prepare("lung", "old")
    assert "masks_Before correction/, masks_old/ passed over" in prepare("lung", "heart")


def test_one_side_without_the_other_is_refused(two_conventions, tmp_path):
    """A mirrored image would teach that its left lung is the right one."""
    for name in ("images", "masks"):
        shutil.copytree(two_conventions / name, tmp_path / name)
    shutil.copytree(two_conventions / "masks", tmp_path / "masks_left_lung")
    canvases = make_canvases(load_folder(tmp_path), size=32, fit="stretch", outputs=SIDED)
    with pytest.raises(InputError, match="one side without the other"):
        canvases.read(0)


def test_an_output_that_nothing_teaches_is_refused(two_conventions):
    config = parse_config(
        {
            "data": {"name": "folder", "dir": str(two_conventions), "size": 32},
            "model": {"outputs": ("lung", "lung_and_heart", "hart"), "depth": 2},
            "train": {"batch_size": 4},
        }
    )
    with pytest.raises(InputError, match=r"no training image labels 'hart'; they mark lung, lung_"):
        prepare_data(config)


def test_another_convention_is_scored_and_warned_of(workdir, two_conventions, tmp_path):
    """A model of the lung on masks of lung and heart: the report says what was compared."""
    [task] = _plan([workdir], [two_conventions], None, False, "lung", None)
    assert (task.predictor.output, task.truth, len(task.split.ids)) == ("lung", "lung", 36)
    for name in ("images", "masks"):
        shutil.copytree(two_conventions / name, tmp_path / "f (1)" / name)
    named = {"convention": "lung_and_heart"}
    [task] = _plan([workdir], [tmp_path / "f (1)"], None, False, **named)
    assert (task.predictor.output, task.truth) == ("lung", "lung_and_heart")
    assert task.warning == "its masks mark lung_and_heart, and the model marks lung"
    assert task.label == "f (1) (lung_and_heart)"
    for folder, bad in ((None, "lung_and_heart"), (two_conventions, "Lung")):
        with pytest.raises(InputError, match=f"--convention {bad}: names"):
            _plan([workdir], [folder], None, False, convention=bad)


def marking(model, structure):
    """The shared model of the lung, as if it marked another structure."""
    network = dataclasses.replace(model.config.model, outputs=(structure,))
    config = dataclasses.replace(model.config, model=network)
    return dataclasses.replace(model, config=config, output=structure)


def test_messages_name_the_structure(model, two_conventions, tmp_path, capsys):
    film = two_conventions / "images" / "00.png"
    for structure in ("lung", "heart"):
        marker = marking(model, structure)
        assert f"% {structure}, confidence" in repr(marker.prediction(film))
        options = Options(out=tmp_path / structure, output=structure)
        assert run_batch(models_of(marker), find_sources([film], volumes=False), options) == 0
        assert f"% {structure}" in capsys.readouterr().out


def test_a_structure_that_is_no_two_lungs_has_no_scores_of_each_lung(model):
    """Not even one of two pieces side by side."""
    image, mask = (np.asarray(plane[0]) for plane in radiographs(jax.random.key(0), 1, size=32))
    right = {}
    for structure in ("lung", "lung_and_heart", "ribs"):
        example = Example(image, mask > 0, marks=structure)
        split = Split("all", ("a",), ("a",), [example].__getitem__, labels=((structure,),))
        task = Task("m", marking(model, structure), "d", "here", split, None, structure)
        scores = score_split(task)
        right[structure] = [scores.grids[grid]["dice_right"][0] for grid in scores.grids]
        assert np.isfinite(scores.original["dice"]).all()
    assert np.isfinite([*right["lung"], *right["lung_and_heart"]]).all()
    assert np.isnan(right["ribs"]).all()


def test_a_network_of_two_outputs_learns_both_and_is_scored_on_each(
    two_conventions, tmp_path, monkeypatch
):
    monkeypatch.setattr(plots, "_svg", lambda figure, name, title: "<svg></svg>")  # takes seconds
    config = parse_config(
        {
            "data": {
                "name": "folder",
                "dir": str(two_conventions),
                "size": 32,
                "loader": "memory",
                "validation_fraction": 0.2,
            },
            "model": {"outputs": ("lung", "lung_and_heart"), "width": 4, "depth": 2, "patch": 1},
            "augment": vars(PLAIN),
            "optim": {"learning_rate": 1e-2},
            "train": {"batch_size": 4, "num_epochs": 9, "patience": 0},
        }
    )
    run = tmp_path / "run"
    train_and_evaluate(config, run)
    report = evaluate(run, data=two_conventions, split="all", tta=False, out=tmp_path / "report")
    lung, both = report["results"]
    assert [lung["output"], both["output"]] == ["lung", "lung_and_heart"]
    assert lung["n"] == both["n"] == 36 and both["set"].endswith("(lung_and_heart)")
    for entry in (lung, both):
        assert entry["grids"]["original"]["per_image"]["dice"]["mean"] > 0.7
    # Each output marks its own convention: the space between the lungs is in one alone.
    model = jaxlung.load(run, tta=False)
    film = cv2.imread(str(two_conventions / "images" / "00.png"), 0)
    lungs, with_heart = (model.predict(film, output=name) for name in config.model.outputs)
    assert with_heart.sum() > 1.1 * lungs.sum()
    np.testing.assert_array_equal(model.predict(film), lungs)
    with pytest.raises(InputError, match="no output 'heart'; it marks lung, lung_and_heart"):
        model.predict(film, output="heart")
    [alone] = _plan([run], [two_conventions], "all", False, "lung", None)
    assert len(alone.split.ids) == 36
    assert "36 of these 72 images label no output" in alone.warning
