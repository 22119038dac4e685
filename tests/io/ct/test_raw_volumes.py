"""MetaImage and NRRD: where the voxels lie, and what is refused."""

import gzip
import zlib

import numpy as np
import pytest

from jaxlung.io import volumes
from tests.helpers.refusals import assert_refused

nibabel = pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')

HU = np.random.default_rng(0).integers(-1000, 400, (6, 5, 4)).astype(np.int16)  # x, y, z
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-10 -20 30",
    "ElementSpacing": "1.5 2 3",
    "DimSize": "6 5 4",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(1.5,0,0) (0,2,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-10,-20,30)",
}
BYTES = HU.tobytes(order="F")
AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])  # by hand


def meta(path, data=BYTES, **fields):
    header = {**META, **fields}
    header["ElementDataFile"] = header.pop("ElementDataFile")  # the last
    text = "".join(f"{key} = {value}\n" for key, value in header.items() if value is not None)
    path.write_bytes(text.encode() + data)
    return path


def nrrd(path, data=BYTES, **fields):
    header = {**NRRD, **{key.replace("_", " "): value for key, value in fields.items()}}
    text = "".join(f"{key}: {value}\n" for key, value in header.items() if value is not None)
    path.write_bytes(b"NRRD0004\n# a comment\n" + text.encode() + b"key:=value\n\n" + data)
    return path


def detached(write, path, voxels, data=BYTES, **fields):
    (path.parent / voxels).write_bytes(data)
    return write(path, b"", **fields)


def check(path, affine_4x4=AFFINE, voxels=HU):
    """The volume is that of a NIfTI file of the affine."""
    reference = path.with_name("reference.nii.gz")
    nibabel.save(nibabel.Nifti1Image(voxels, affine_4x4), reference)
    found, expected = volumes.read_volume(path), volumes.read_volume(reference)
    np.testing.assert_array_equal(found.voxels_ZxHxW, expected.voxels_ZxHxW)
    np.testing.assert_allclose(found.grid.affine_4x4, affine_4x4, atol=1e-6)
    assert found.spacing == pytest.approx(expected.spacing) and found.warnings == ()
    volumes.write_mask(path.with_name("mask.nii.gz"), found.voxels_ZxHxW > 0, found.grid)
    written = nibabel.load(path.with_name("mask.nii.gz"))
    np.testing.assert_array_equal(np.asanyarray(written.dataobj) > 0, voxels > 0)
    np.testing.assert_allclose(written.affine, affine_4x4, atol=1e-5)


@pytest.mark.parametrize(
    "write",
    [
        lambda d: meta(d / "a.mha"),
        lambda d: meta(d / "A.MHA", zlib.compress(BYTES), CompressedData="True"),
        lambda d: meta(
            d / "a.mha", HU.astype(">i2").tobytes(order="F"), BinaryDataByteOrderMSB="True"
        ),
        lambda d: meta(d / "a.mha", HU.astype("<f4").tobytes(order="F"), ElementType="MET_FLOAT"),
        lambda d: detached(meta, d / "a.mhd", "a.raw", ElementDataFile="a.raw"),
        lambda d: detached(
            meta, d / "a.mhd", "a b.raw", b"12" + BYTES, ElementDataFile="a b.raw", HeaderSize="-1"
        ),
        lambda d: nrrd(d / "a.nrrd"),
        lambda d: nrrd(d / "a.nrrd", gzip.compress(BYTES), encoding="gzip"),
        lambda d: nrrd(d / "a.nrrd", HU.astype(">i4").tobytes(order="F"), type="int", endian="big"),
        lambda d: detached(
            nrrd, d / "a.nhdr", "a.gz", gzip.compress(BYTES), encoding="gz", data_file="a.gz"
        ),
    ],
)
def test_voxels_lie_where_the_header_says(tmp_path, write):
    check(write(tmp_path))


def test_an_axis_is_a_row_of_the_matrix(tmp_path):
    """Coronal slices: rows of the file run along S, slices from back to front."""
    rows = "1 0 0 0 0 -1 0 -1 0"
    affine = np.array([[-1.5, 0, 0, 10], [0, 0, 3, 20], [0, -2, 0, 30], [0, 0, 0, 1]])
    check(meta(tmp_path / "a.mha", TransformMatrix=rows), affine)
    directions = "(1.5,0,0) (0,0,-2) (0,-3,0)"
    check(nrrd(tmp_path / "a.nrrd", space_directions=directions), affine)


@pytest.mark.parametrize(("space", "signs"), [("RAS", (1, 1)), ("left-anterior-superior", (-1, 1))])
def test_spaces_of_nrrd(tmp_path, space, signs):
    affine_4x4 = np.diag([*signs, 1, 1]) @ np.diag([-1, -1, 1, 1]) @ AFFINE
    check(nrrd(tmp_path / "a.nrrd", space=space), affine_4x4)


def test_a_default_header_is_warned_of(tmp_path):
    volume = volumes.read_volume(meta(tmp_path / "a.mha", ElementSpacing="1 1 1", Offset="0 0 0"))
    assert volume.warnings == ("default header: spacing and sides unsure",) and not volume.placed


def elsewhere(directory):
    secret = directory.parent / "secret.raw"
    secret.write_bytes(BYTES)
    return meta(directory / "a.mhd", b"", ElementDataFile="../secret.raw")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda d: meta(d / "a.mha", BYTES[:-1]), "truncated"),
        (lambda d: meta(d / "a.mha", b"x" + BYTES, CompressedData="True"), "damaged"),
        (lambda d: nrrd(d / "a.nrrd", gzip.compress(BYTES)[:-30], encoding="gzip"), "damaged"),
        (lambda d: meta(d / "a.mha", DimSize="6 5 400000"), "truncated"),
        (lambda d: meta(d / "a.mha", DimSize="60000 60000 60000"), "damaged or incomplete header"),
        (lambda d: meta(d / "a.mha", DimSize="6 5 x"), "damaged or incomplete header"),
        (lambda d: meta(d / "a.mha", ElementSpacing=None), "damaged or incomplete header"),
        (lambda d: meta(d / "a.mha", ElementSpacing="1 1 0"), "does not say how its voxels lie"),
        (lambda d: meta(d / "a.mha", NDims="4", DimSize="6 5 2 2"), "shape (6, 5, 2, 2)"),
        (lambda d: meta(d / "a.mha", ElementNumberOfChannels="3"), "is in colour"),
        (lambda d: meta(d / "a.mha", BinaryData="False"), "voxels written as text"),
        (lambda d: meta(d / "a.mhd", b"", ElementDataFile="a.raw"), "not beside it"),
        (lambda d: meta(d / "a.mhd", b"", ElementDataFile="LIST"), "in other places"),
        (lambda d: meta(d / "a.mhd", b"", ElementDataFile="s%03d.raw 1 9 1"), "in other places"),
        (elsewhere, "in other places"),
        (lambda d: nrrd(d / "a.nrrd", space=None), "does not say how its voxels lie"),
        (lambda d: nrrd(d / "a.nrrd", encoding="bzip2"), "another encoding"),
        (lambda d: nrrd(d / "a.nrrd", type="block"), "header"),
        (lambda d: nrrd(d / "a.nrrd", dimension="4", sizes="3 6 5 4"), "shape (3, 6, 5, 4)"),
    ],
)
def test_refused(tmp_path, write, words):
    (tmp_path / "d").mkdir()
    assert_refused(volumes.read_volume, write(tmp_path / "d"), words)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("data", [b"", b"NRRD", b"\0" * 500, b"ObjectType = Image\n", b"x" * 10**5])
def test_what_is_no_such_file(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert_refused(volumes.read_volume, tmp_path / name)
