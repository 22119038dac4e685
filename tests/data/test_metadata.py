"""What metadata.csv and stems say of images, and what a folder's splits make of it."""

import numpy as np
import pytest
from PIL import Image

from jaxlung.config import DataConfig
from jaxlung.data.folder import load_folder, load_folder_splits
from jaxlung.data.metadata import read_metadata
from jaxlung.data.splits import select_examples
from jaxlung.errors import InputError

NLM = ["CHNCXR_0001_0", "MCUCXR_0002_1", "CHNCXR_0327_1"]


def table(folder, text):
    path = folder / "metadata.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def of_column(name, values):
    return f"id,{name}\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values))


def make_folder(folder, stems):
    for i, stem in enumerate(stems):
        for name, value in (("images", i), ("masks", 255)):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(np.full((2, 3), value, np.uint8)).save(folder / name / f"{stem}.png")
    return folder


def test_without_file():
    metadata = read_metadata(None, ["a", "b"])
    assert metadata.patients is None
    assert metadata.spacings == (None, None) and metadata.groups == {}


@pytest.mark.parametrize(
    ("ids", "finding"),
    [
        (NLM, ("normal", "tuberculosis", "tuberculosis")),
        ([NLM[0], "other"], ("normal", "")),
        (NLM[1:], None),  # all alike
        (["XCHNCXR_0001_0", "CHNCXR_0001_2", "CHNCXR_0001_1x", NLM[0]], ("", "", "", "normal")),
    ],
)
def test_stems_of_the_nlm_tell_the_finding(ids, finding):
    assert read_metadata(None, ids).groups.get("finding") == finding


def test_the_file_is_believed_before_the_stem(tmp_path):
    path = table(tmp_path, f"id,finding\n{NLM[0]},effusion\n{NLM[1]},normal\n")
    assert read_metadata(path, NLM[:2]).groups == {"finding": ("effusion", "normal")}


def test_every_column_in_the_order_of_the_ids(tmp_path):
    path = table(
        tmp_path,
        "sex,patient,id,spacing_y_mm,spacing_x_mm\n"
        "f,p1,a,0.5,0.25\n"
        "m, p2 ,b,,\n"  # spaces around a value are no part of it
        'f,"p,1",c,2,1e0\n'
        "x,p9,not asked for,bad,bad\n",
    )
    metadata = read_metadata(path, ["c", "b", "a"])
    assert metadata.patients == ("p,1", "p2", "p1")
    assert metadata.spacings == ((2, 1), None, (0.5, 0.25))
    assert metadata.groups == {"sex": ("f", "m", "f")}


def test_square_spacing(tmp_path):
    path = table(tmp_path, "id,spacing_mm\na,0.175\nb,\n")
    metadata = read_metadata(path, ["a", "b"])
    assert metadata.spacings == ((0.175, 0.175), None) and metadata.patients is None
    assert metadata.groups == {}


@pytest.mark.parametrize(("different", "kept"), [(1, False), (2, True), (12, True), (13, False)])
def test_a_subgroup_has_2_to_12_values(tmp_path, different, kept):
    values = tuple(f"v{i % different}" for i in range(26))
    metadata = read_metadata(table(tmp_path, of_column("site", values)), list(map(str, range(26))))
    assert metadata.groups == ({"site": values} if kept else {})


def test_values_of_other_rows_do_not_count(tmp_path):
    path = table(tmp_path, of_column("site", [0, 0, *range(20)]))
    assert read_metadata(path, ["0", "1"]).groups == {}
    assert read_metadata(path, ["1", "3"]).groups == {"site": ("0", "1")}


def test_byte_order_mark_and_windows_lines(tmp_path):
    path = table(tmp_path, "\N{ZERO WIDTH NO-BREAK SPACE}id,patient\r\na,Zoë\r\n\r\nb,q\r\n")
    assert read_metadata(path, ["a", "b"]).patients == ("Zoë", "q")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_of_other_systems(tmp_path, encoding):
    path = table(tmp_path, "id,patient\r\na,Zoë\r\nb,q\r\n".encode(encoding))
    assert read_metadata(path, ["a", "b"]).patients == ("Zoë", "q")


def test_names_compare_composed(tmp_path):
    path = table(tmp_path, "id,patient\nMu\u0308ller0,Zoe\u0308\nM\u00fcller1,Zo\u00eb\n")
    for ids in (["M\u00fcller0", "M\u00fcller1"], ["Mu\u0308ller0", "Mu\u0308ller1"]):
        assert read_metadata(path, ids).patients == ("Zo\u00eb", "Zo\u00eb")
    path = table(tmp_path, "id,patient\nMu\u0308,1\nM\u00fc,2\n")
    with pytest.raises(InputError, match="line 3 repeats id"):
        read_metadata(path, ["M\u00fc"])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "'id'"),
        ("id,patient\n", "no rows"),
        ("name,patient\na,p\nb,q\n", "'id'"),
        ("id;patient\na;p\nb;q\n", "'id'"),
        ("id,sex,sex\na,f,m\nb,f,m\n", "twice"),
        ("id,sex\na,f\nb,m\na,f\n", "'a'"),
        ("id,sex\na,f\nB,m\n", "'b'"),
        ("id,patient\na,p\nb,\n", "'b'"),
        ("id,patient\na,p\nb, \n", "'b'"),
        ("id,sex\na,f\nb,m,1\n", "line 3"),
        ("id,sex\na\nb,m\n", "line 2"),
        ('id,sex\na,"f\nb,m\n', "CSV"),
        ("id,sex\na,é\nb,m\n".encode("latin-1"), "neither UTF-8 nor UTF-16"),
        ("id,sex\na,f\nb,m\n".encode("utf-16-le"), "neither UTF-8 nor UTF-16"),
        ("id,sex\na,f\nb,\0m\n", "NUL"),
        *((f"id,spacing_mm\na,1\nb,{bad}\n", "'b'") for bad in ("0", "-2", "nan", "inf", "wide")),
        ("id,spacing_y_mm,spacing_x_mm\na,1,1\nb,1,\n", "'b'"),
        ("id,spacing_y_mm,spacing_x_mm\na,1,1\nb,,1\n", "'b'"),
        ("id,spacing_y_mm\na,1\nb,1\n", "'a'"),
    ],
)
def test_refuses(tmp_path, text, word):
    path = table(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_metadata(path, ["a", "b"])
    assert str(path) in str(caught.value) and word in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_refuses_what_is_no_file(tmp_path, name):
    with pytest.raises(InputError) as caught:
        read_metadata(tmp_path / name, ["a"])
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_with_metadata(tmp_path):
    make_folder(tmp_path, "abc")
    table(tmp_path, "id,patient,spacing_mm,view\nc,p,3,PA\nb,q,,AP\na,p,1,PA\nz,r,9,PA\n")
    split = load_folder(tmp_path)
    assert split.ids == ("a", "b", "c") and split.patients == ("p", "q", "p")
    assert split.groups == {"view": ("PA", "AP", "PA")}
    assert [split.read(i).spacing for i in range(3)] == [(1, 1), None, (3, 3)]


def test_a_folder_without_metadata(tmp_path):
    split = load_folder(make_folder(tmp_path, NLM))
    assert split.patients is None and split.read(0).spacing is None
    assert set(split.groups) == {"finding"}


def test_a_pattern_wins_over_metadata(tmp_path):
    make_folder(tmp_path, ["x1-a", "x2-a", "y1-b"])
    table(tmp_path, "id,patient,view\nx1-a,p,PA\nx2-a,q,AP\ny1-b,p,PA\n")
    split = load_folder(tmp_path, "^(.)")
    assert split.patients == ("x", "x", "y") and split.groups == {"view": ("PA", "AP", "PA")}


def test_a_folders_metadata_must_name_every_image(tmp_path):
    make_folder(tmp_path, "ab")
    path = table(tmp_path, "id,view\na,PA\n")
    with pytest.raises(InputError) as caught:
        load_folder(tmp_path)
    assert str(path) in str(caught.value) and "'b'" in str(caught.value)


def test_hash_keeps_a_patients_images_together(tmp_path):
    stems = [f"i{i:02}" for i in range(60)]
    patients = {stem: f"p{i % 20}" for i, stem in enumerate(stems)}
    make_folder(tmp_path, stems)
    config = DataConfig(
        name="folder", dir=str(tmp_path), validation_fraction=0.3, test_fraction=0.3
    )

    def spread():
        """Of each patient, how many splits hold an image of theirs."""
        splits = load_folder_splits(config)
        assert sorted(stem for split in splits.values() for stem in split.ids) == stems
        held = {(patients[stem], name) for name, split in splits.items() for stem in split.ids}
        return np.unique([patient for patient, _ in held], return_counts=True)[1]

    assert spread().max() > 1  # each image alone
    table(tmp_path, "id,patient\n" + "".join(f"{s},{p}\n" for s, p in patients.items()))
    assert (spread() == 1).all()
    for split in load_folder_splits(config).values():
        assert split.patients == tuple(patients[stem] for stem in split.ids)


def test_select_keeps_what_belongs_to_an_image(tmp_path):
    make_folder(tmp_path, "abcd")
    table(tmp_path, "id,patient,spacing_mm,view\na,p,1,PA\nb,q,2,AP\nc,r,3,LL\nd,s,4,PA\n")
    whole = load_folder(tmp_path)
    part = select_examples(whole, ["d", "b"], "part")
    assert part.name == "part" and part.ids == ("d", "b") and part.patients == ("s", "q")
    assert part.groups == {"view": ("PA", "AP")}
    assert part.sources == (whole.sources[3], whole.sources[1])
    for i, index in enumerate((3, 1)):
        assert part.read(i).spacing == (index + 1, index + 1)
        assert (part.read(i).image == index).all()
    assert select_examples(whole._replace(patients=None), ["a"], "part").patients is None
