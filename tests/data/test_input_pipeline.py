"""The input is a function of (seed, step), whichever loader reads it."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxlung.data.canvases import CHECK_LIMIT, check_canvases, make_canvases
from jaxlung.data.duplicates import hash_image
from jaxlung.data.folder import find_pairs, load_pairs
from jaxlung.data.input_pipeline import PADDING, batches, epoch_order, eval_indices, train_indices
from jaxlung.data.splits import make_array_split
from jaxlung.errors import InputError
from jaxlung.preprocess import to_canvas
from jaxlung.system.silence import import_tensorflow

LOADERS = ("memory", "tfdata")
SIZE = 16


def example_split(count=7):
    """Images of different sizes, each with a mask."""
    rng = np.random.default_rng(0)
    shapes = [(SIZE + 3 * i, 2 * SIZE - i) for i in range(count)]
    images = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    masks = [image > 99 for image in images]
    return make_array_split("train", [f"image{i}" for i in range(count)], images, masks)


def counted(split):
    """The split, and the list of indices that have been read from it."""
    reads = []

    def read(index):
        reads.append(index)
        return split.read(index)

    return split._replace(read=read), reads


def canvases_of(split, **options):
    return make_canvases(split, **{"size": SIZE, "fit": "letterbox", **options})


def collect(canvases, indices, loader, count=None):
    return list(itertools.islice(batches(canvases, indices, loader=loader), count))


def assert_batches_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert set(a) == set(b) == {"image", "mask", "labelled", "valid"}
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("count", [1, 2, 17, 1000])
def test_epoch_order_is_a_permutation(count):
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (2**31 - 1, 10**6)]:
        np.testing.assert_array_equal(np.sort(epoch_order(seed, epoch, count)), np.arange(count))


def test_epoch_order_is_a_function_of_seed_and_epoch():
    orders = {(s, e): tuple(epoch_order(s, e, 50)) for s in range(5) for e in range(5)}
    assert len(set(orders.values())) == 25
    assert tuple(epoch_order(3, 2, 50)) == orders[3, 2]


@pytest.mark.parametrize(("count", "batch_size"), [(7, 2), (8, 4), (5, 5), (9, 1), (100, 33)])
def test_train_indices_resume_in_mid_stream(count, batch_size):
    steps = 4 * (count // batch_size) + 1
    straight = list(itertools.islice(train_indices(5, 0, count, batch_size), steps))
    for start in range(0, steps, 1 + steps // 12):
        resumed = itertools.islice(train_indices(5, start, count, batch_size), steps - start)
        np.testing.assert_array_equal(list(resumed), straight[start:])


def test_an_epoch_visits_no_example_twice_and_leaves_out_the_rest():
    straight = np.array(list(itertools.islice(train_indices(0, 0, 11, 4), 6)))
    for epoch in range(3):
        visited = straight[2 * epoch : 2 * epoch + 2].ravel()
        assert len(set(visited)) == 8
        np.testing.assert_array_equal(visited, epoch_order(0, epoch, 11)[:8])
    assert set(straight.ravel()) == set(range(11))  # another rest each epoch


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (6, 3), (1, 4), (5, 1), (3, 3)])
def test_eval_indices_cover_each_index_once(count, batch_size):
    indices = list(eval_indices(count, batch_size))
    assert all(len(batch) == batch_size for batch in indices)
    flat = np.concatenate(indices)
    np.testing.assert_array_equal(flat[:count], np.arange(count))
    assert len(flat) - count == -count % batch_size and (flat[count:] == PADDING).all()


def test_eval_indices_of_nothing():
    assert list(eval_indices(0, 4)) == []


@pytest.mark.parametrize("loader", LOADERS)
def test_batches_hold_the_canvases(loader):
    split = example_split()
    found = collect(canvases_of(split), eval_indices(7, 3), loader)
    assert len(found) == 3
    for batch in found:
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
            "image": ((3, SIZE, SIZE), np.uint8),
            "mask": ((3, SIZE, SIZE, 1), np.uint8),
            "labelled": ((3, 1), np.bool_),
            "valid": ((3,), np.bool_),
        }
    rows = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    for i in range(7):
        example = split.read(i)
        image, mask, _ = to_canvas(example.image, example.mask, size=SIZE)
        np.testing.assert_array_equal(rows["image"][i], image)
        np.testing.assert_array_equal(rows["mask"][i, ..., 0], mask)
    np.testing.assert_array_equal(rows["valid"], [True] * 7 + [False] * 2)
    np.testing.assert_array_equal(rows["labelled"][:, 0], rows["valid"])
    assert not rows["image"][7:].any() and not rows["mask"][7:].any()


@pytest.mark.parametrize("cache_gib", [4.0, 0.0])
def test_loaders_give_identical_batches(cache_gib):
    split = example_split()
    for indices, count in (
        (lambda: eval_indices(7, 3), None),
        (lambda: train_indices(1, 2, 7, 3), 7),
    ):
        memory, tfdata = (
            collect(canvases_of(split, cache_gib=cache_gib), indices(), loader, count)
            for loader in LOADERS
        )
        assert_batches_equal(memory, tfdata)


@pytest.mark.parametrize("loader", LOADERS)
def test_no_batches_from_no_indices(loader):
    assert collect(canvases_of(example_split()), iter(()), loader) == []


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_cache_changes_nothing_but_the_number_of_reads(fit):
    split = example_split()
    cached_split, cached_reads = counted(split)
    fresh_split, fresh_reads = counted(split)
    cached = canvases_of(cached_split, fit=fit)
    fresh = canvases_of(fresh_split, fit=fit, cache_gib=0.0)
    assert cached_reads == fresh_reads == []  # nothing is read before it is asked for
    for _ in range(2):
        assert_batches_equal(
            collect(cached, eval_indices(7, 2), "memory"),
            collect(fresh, eval_indices(7, 2), "memory"),
        )
    assert sorted(cached_reads) == list(range(7))
    assert sorted(fresh_reads) == sorted(2 * list(range(7)))


def test_cache_holds_what_fits_and_nothing_else():
    need = 2 * 7 * SIZE**2 / 2**30
    for cache_gib, reads_each in ((need, 1), (0.999 * need, 2)):
        split, reads = counted(example_split())
        canvases = canvases_of(split, cache_gib=cache_gib)
        for index in [*range(7), *range(7)]:
            canvases.read(index)
        assert len(reads) == 7 * reads_each


def test_changing_a_batch_does_not_change_the_next():
    canvases = canvases_of(example_split(2))
    [first] = collect(canvases, eval_indices(2, 2), "memory")
    expected = first["image"].copy()
    first["image"][:] = 0
    [second] = collect(canvases, eval_indices(2, 2), "memory")
    np.testing.assert_array_equal(second["image"], expected)


@pytest.fixture
def folder(tmp_path):
    """Six pairs, the fifth of which has an unreadable image."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(6):
            pixels = rng.integers(0, 2, (SIZE, SIZE), np.uint8) * 255
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    bad = tmp_path / "images" / "4.png"
    bad.write_bytes(bad.read_bytes()[:60])
    return tmp_path


@pytest.mark.parametrize("loader", LOADERS)
def test_unreadable_file_in_mid_stream_is_named(folder, loader):
    canvases = canvases_of(load_pairs("test", find_pairs(folder)))
    stream = batches(canvases, eval_indices(6, 2), loader=loader)
    for _ in range(2):
        assert next(stream)["valid"].all()
    with pytest.raises(InputError) as caught:
        next(stream)
    assert str(folder / "images" / "4.png") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loader", LOADERS)
def test_image_that_has_no_canvas_is_named(loader):
    images = [np.zeros((4, 4)), np.full((4, 4), np.nan)]
    split = make_array_split("test", ["good", "bad"], images, [np.ones((4, 4))] * 2)
    with pytest.raises(InputError, match="^bad: .*NaN"):
        collect(canvases_of(split), eval_indices(2, 1), loader)


def test_array_split_wants_as_many_of_each():
    with pytest.raises(InputError, match="train: 2 ids, 1 images, 2 masks"):
        make_array_split("train", ["a", "b"], [np.zeros((4, 4))], [np.ones((4, 4))] * 2)


def test_check_reads_everything_and_names_the_unreadable(folder):
    split = load_pairs("test", find_pairs(folder))
    with pytest.raises(InputError, match="4.png"):
        check_canvases(canvases_of(split))


def test_check_fills_the_cache():
    split, reads = counted(example_split())
    canvases = canvases_of(split)
    check_canvases(canvases)
    assert sorted(reads) == list(range(7))
    collect(canvases, eval_indices(7, 3), "memory")
    assert len(reads) == 7


def test_check_rejects_empty_masks_by_name():
    images = [np.arange(0, 160, 10, np.uint8).reshape(4, 4)] * 3
    masks = [np.eye(4), np.zeros((4, 4)), np.eye(4)]
    split = make_array_split("train", ["a", "hollow", "c"], images, masks)
    with pytest.raises(InputError, match="^hollow: .*train split is empty"):
        check_canvases(canvases_of(split, reject_empty=True))
    assert len(check_canvases(canvases_of(split))) == 3


@pytest.mark.parametrize("shape", [(4, 4), (4, 8), (90, 40)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_check_rejects_blank_images_by_name(shape, dtype):
    """White on a letterboxed canvas is blank too, as is one dead pixel of a large image."""
    film = np.linspace(0, 200, math.prod(shape)).astype(dtype).reshape(shape)
    blank = np.full(shape, 255, dtype)
    if math.prod(shape) > 1000 and dtype == np.uint8:
        blank[3, 3] = 0
    masks = [np.tri(*shape)] * 3
    split = make_array_split("validation", ["a", "dark", "c"], [film, blank, film], masks)
    with pytest.raises(InputError, match="^dark: this image of the validation split is blank"):
        check_canvases(canvases_of(split, reject_empty=True))
    assert len(check_canvases(canvases_of(split))) == 3


def test_a_large_split_is_sampled_and_named_by_its_files(folder):
    split, reads = counted(load_pairs("train", find_pairs(folder)[:4]))
    digests = check_canvases(canvases_of(split), limit=3, sample=2)
    assert sorted(reads) == [0, 3] and len(digests) == 4
    assert digests == {i: split.stat(n) for n, i in enumerate(split.ids)}
    whole = check_canvases(canvases_of(split), limit=4)
    assert set(reads) == set(range(4)) and not set(whole.values()) & set(digests.values())


@pytest.mark.parametrize(("count", "expected"), [(1000, 1000), (1001, 64)])
def test_a_split_of_more_than_1000_is_large(count, expected):
    """As docs/datasets.md says."""
    images = np.zeros((count, 4, 4), np.uint8)
    split = make_array_split("train", [f"{i}" for i in range(count)], images, images == 0)
    split, reads = counted(split._replace(stat=str))
    assert len(check_canvases(canvases_of(split))) == count
    assert len(set(reads)) == len(reads) == expected
    assert {min(reads), max(reads)} == {0, count - 1}


def test_an_empty_mask_of_a_large_split_is_found_in_its_turn():
    masks = np.tile(np.eye(4), (12, 1, 1))
    masks[5] = 0
    images = np.tile(np.arange(0, 160, 10, np.uint8).reshape(4, 4), (12, 1, 1))
    split = make_array_split("train", [f"{i}" for i in range(12)], images, masks)
    canvases = canvases_of(split._replace(stat=lambda i: f"{i}"), reject_empty=True)
    assert len(check_canvases(canvases, limit=10, sample=2)) == 12
    with pytest.raises(InputError, match="^5: "):
        collect(canvases, eval_indices(12, 3), "memory")


def test_a_mask_of_the_whole_image_is_rejected():
    """Also one of a film that is letterboxed, whose bars it does not mark."""
    film = np.arange(20 * 40, dtype=np.uint16).reshape(20, 40)
    split = make_array_split("train", ["full"], [film], [np.ones((20, 40), bool)])
    with pytest.raises(InputError, match="^full: .*train split marks the whole image as lung"):
        check_canvases(canvases_of(split, reject_empty=True))
    check_canvases(canvases_of(split._replace(name="test")))


def test_grey_is_made_once(monkeypatch):
    made = []

    def find_range(image):
        made.append(image.shape)
        return float(image.min()), float(image.max())

    monkeypatch.setattr("jaxlung.io.grey.find_range", find_range)
    film = np.arange(200 * 140, dtype=np.uint16).reshape(200, 140)
    split = make_array_split("train", ["a"], [film], [film > 9])
    canvases = canvases_of(split, hashed=True)
    check_canvases(canvases)
    assert made == [film.shape] and canvases.hashes == {"a": hash_image(film)}


def test_mask_that_vanishes_on_the_canvas_counts_as_empty():
    speck = np.zeros((160, 160))
    speck[80, 80] = 1
    split = make_array_split("train", ["speck"], [np.zeros((160, 160), np.uint8)], [speck])
    with pytest.raises(InputError, match="^speck: "):
        check_canvases(canvases_of(split, reject_empty=True))


@pytest.mark.parametrize("cache_gib", [4.0, 0.0])
def test_digests_name_the_content(cache_gib):
    def digests(images, masks):
        split = make_array_split("train", [f"{i}" for i in range(3)], images, masks)
        found = check_canvases(canvases_of(split, cache_gib=cache_gib))
        assert list(found) == ["0", "1", "2"]
        return [tuple(digest.split(":")) for digest in found.values()]  # of image, of mask

    images = np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE), np.uint8)
    masks = images > 99
    before = digests(images, masks)
    assert len(set(before)) == 3 and {len(part) for digest in before for part in digest} == {32}
    assert digests(images, masks) == before
    brighter, larger = images.copy(), masks.copy()
    brighter[1, 5, 6] += 1
    larger[1, 5, 6] = ~larger[1, 5, 6]
    for part, after in ((0, digests(brighter, masks)), (1, digests(images, larger))):
        assert after[::2] == before[::2]
        assert after[1][part] != before[1][part] and after[1][1 - part] == before[1][1 - part]


@pytest.mark.parametrize("loader", LOADERS)
def test_a_damaged_file_in_mid_stream_ends_it_in_one_line(loader, capfd):
    """At its batch's turn; TensorFlow writes no traceback of its own."""
    whole = example_split()

    def read(index):
        if index == 3:
            raise InputError("d.png: is damaged")
        return whole.read(index)

    canvases = canvases_of(whole._replace(read=read), cache_gib=0.0)
    stream = batches(canvases, eval_indices(len(whole.ids), 2), loader=loader)
    assert next(stream)["valid"].all()
    with pytest.raises(InputError, match="^d.png: is damaged$"):
        list(stream)
    assert "Traceback" not in capfd.readouterr().err


def test_memory_loader_works_without_tensorflow_and_tfdata_says_what_to_do():
    code = """
import sys
sys.modules["tensorflow"] = None
import numpy as np
from jaxlung.errors import InputError
from jaxlung.data.canvases import make_canvases
from jaxlung.data.input_pipeline import batches, eval_indices
from jaxlung.data.splits import make_array_split
split = make_array_split("test", ["a"], [np.zeros((8, 8), np.uint8)], [np.ones((8, 8))])
canvases = make_canvases(split, size=16, fit="stretch")
[batch] = batches(canvases, eval_indices(1, 2), loader="memory")
print(batch["mask"].sum(), batch["valid"].tolist())
try:
    list(batches(canvases, eval_indices(1, 2), loader="tfdata"))
except InputError as error:
    print(error)
"""
    lines = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert lines[0] == "65280 [True, False]"
    assert len(lines) == 2 and "data.loader" in lines[1] and "TensorFlow" in lines[1]


def test_auto_takes_tfdata_only_for_what_is_not_in_memory():
    split = example_split()
    small, uncached = canvases_of(split), canvases_of(split, cache_gib=0.0)
    assert (small.loader("auto"), uncached.loader("auto")) == ("memory", "tfdata")
    assert (small.loader("device"), uncached.loader("device")) == ("memory", "tfdata")
    ids = tuple(map(str, range(CHECK_LIMIT + 1)))
    sampled = canvases_of(split._replace(ids=ids, sources=ids, stat=str))
    assert sampled.loader("auto") == "tfdata"
    assert [small.loader(choice) for choice in LOADERS] == list(LOADERS)


def test_advice_to_install_tensorflow_works_on_every_machine(monkeypatch):
    """`tensorflow-cpu` has no wheels for Apple silicon and ARM Linux."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match="pip install tensorflow, or set data.loader='memory'$"):
        import_tensorflow()
