"""Contours of an RTSTRUCT file give back the lungs that they were drawn around."""

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io import volumes
from jaxlung.io.dicom.drawn.contours import _Contour, join_contours
from jaxlung.io.dicom.drawn.names import name_lung
from jaxlung.io.dicom.drawn.read import read_drawn_lungs
from jaxlung.structures import LEFT_LUNG, LUNG, RIGHT_LUNG

pydicom = pytest.importorskip("pydicom", reason='pip install -e ".[ct]"')
pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')

from tests.helpers import drawn_files as files  # noqa: E402


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture
def scan(tmp_path):
    hu, right, left = files.chest()
    return files.write_series(tmp_path / "series", hu), right, left


def read(tmp_path, series, drawing):
    return read_drawn_lungs(files.save_dataset(tmp_path / "drawn.dcm", drawing), series)


TILTED = (1.0, 0.0, 0.0, 0.0, np.cos(0.3), -np.sin(0.3))


@pytest.mark.parametrize("axes", [files.AXIAL, TILTED, (-1, 0, 0, 0, -1, 0)])
def test_a_mask_survives_the_way_through_contours(tmp_path, axes):
    hu, right, left = files.chest()
    series = files.write_series(tmp_path / "series", hu, axes)
    contours = {"Lung_R": files.outline(right, axes), "Lung_L": files.outline(left, axes)}
    drawn = read(tmp_path, series, files.make_rtstruct(contours))
    volume = volumes.read_volume(series)
    assert drawn.grid.shape == volume.grid.shape
    assert drawn.structures == (LUNG, RIGHT_LUNG, LEFT_LUNG)
    for structure, mask_SxRxC in ((RIGHT_LUNG, right), (LEFT_LUNG, left), (LUNG, right | left)):
        expected = volumes.from_grid(mask_SxRxC.T, volume.grid)
        assert dice(drawn.mask(structure), expected) > 0.98
    assert volume.voxels_ZxHxW[drawn.mask(LUNG)].mean() < -700  # the air of the lungs


def test_other_structures_are_never_lung(tmp_path, scan):
    series, right, left = scan
    everything = [files.outline(np.ones_like(right))]
    names = ("Trachea", "Heart", "Lungs-GTV", "Lung_LLL", "GTV Lung", "SpinalCord", "Lung_L_PRV")
    contours = {name: everything[0] for name in names}
    drawn = read(
        tmp_path, series, files.make_rtstruct({**contours, "lungs": files.outline(right | left)})
    )
    assert drawn.structures == (LUNG,)
    assert dice(drawn.mask(LUNG), volumes.from_grid((right | left).T, drawn.grid)) > 0.98


@pytest.mark.parametrize(
    ("name", "lung"),
    [
        ("Lung_L", LEFT_LUNG),
        ("lung left", LEFT_LUNG),
        ("L Lung", LEFT_LUNG),
        ("LT_LUNG", LEFT_LUNG),
        ("Right Lung", RIGHT_LUNG),
        ("LungR", RIGHT_LUNG),
        ("Lungs", LUNG),
        ("Total Lung", LUNG),
        ("lungs_both", LUNG),
        ("L Lung R", ""),
        ("Lung_1", ""),
        ("Lungs-PTV", ""),
        ("Lung_RUL", ""),
        ("plung", ""),
        ("", ""),
    ],
)
def test_names_of_lungs(name, lung):
    assert name_lung(name) == name_lung(name.upper()) == lung


def square(low, high):
    return np.array([(low, low), (high, low), (high, high), (low, high)], float)


def test_holes_are_kept():
    """As a keyhole, as XOR, and as nested contours, in any order; an island in a hole is lung."""
    ring = np.zeros((12, 12), bool)
    ring[1:11, 1:11], ring[3:9, 3:9] = True, False
    island = ring.copy()
    island[5:7, 5:7] = True
    outer, inner, core = square(1, 11), square(3, 9), square(5, 7)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1][-1:], inner[::-1], outer[:1]])
    for kind, lines, expected in (
        ("CLOSED_PLANAR", [keyhole], ring),
        ("CLOSED_PLANAR", [outer, inner], ring),
        ("CLOSED_PLANAR", [inner, outer, outer], ring),
        ("CLOSEDPLANAR_XOR", [inner, outer], ring),
        ("CLOSED_PLANAR", [core, outer, inner], island),
        ("CLOSEDPLANAR_XOR", [core, outer, inner], island),
    ):
        joined = join_contours([_Contour(kind, line) for line in lines], (12, 12))
        np.testing.assert_array_equal(joined, expected, kind)
    # Contours that overlap in part are joined; as XOR they are not.
    overlapping = [square(1, 7), square(5, 11)]
    for kind, middle in (("CLOSED_PLANAR", True), ("CLOSEDPLANAR_XOR", False)):
        joined = join_contours([_Contour(kind, line) for line in overlapping], (12, 12))
        assert joined[5:7, 5:7].all() == middle and joined[2, 2] and joined[9, 9]


def test_a_mask_with_holes_survives(tmp_path, scan):
    series, right, left = scan
    right = right.copy()
    right[4, 20:24, 8:12] = False
    contours = {"Lung_R": files.outline(right), "Lung_L": files.outline(left)}
    drawn = read(tmp_path, series, files.make_rtstruct(contours))
    expected = volumes.from_grid(right.T, drawn.grid)
    np.testing.assert_array_equal(drawn.mask(RIGHT_LUNG), expected)


def spoilt(change):
    """Makes a drawing whose right lung is changed."""

    def make(right, left):
        contours = files.outline(right)
        changed = change(contours)
        return files.make_rtstruct(
            {"Lung_L": files.outline(left), "Lung_R": contours if changed is None else changed}
        )

    return make


def shift(contours, by):
    for item in contours:
        points_Nx3 = np.array(item.ContourData, float).reshape(-1, 3) + by
        item.ContourData = [f"{x:.4f}" for x in points_Nx3.ravel()]


def set_first(**fields):
    def change(contours):
        for name, value in fields.items():
            setattr(contours[0], name, value)

    return spoilt(change)


REFUSED = {
    "between slices": (spoilt(lambda c: shift(c, (0, 0, 1.4))), "lies on no slice"),
    "beyond the scan": (spoilt(lambda c: shift(c, (0, 0, 300))), "lies on no slice"),
    "beside the image": (spoilt(lambda c: shift(c, (90, 0, 0))), "leaves the image"),
    "every other slice": (
        spoilt(lambda c: [i for i in c if round(float(i.ContourData[2])) % 2]),
        "has no contour on 3 of the 7 slices",
    ),
    "open": (set_first(ContourGeometricType="OPEN_PLANAR"), "not closed"),
    "points": (set_first(ContourGeometricType="POINT"), "not closed"),
    "no number": (set_first(ContourData=["1", "2", "1E400"] * 3), "damaged points"),
    "cut short": (set_first(ContourData=["1", "2", "3", "4"]), "damaged points"),
    "fewer points than said": (set_first(NumberOfContourPoints=1000), "damaged points"),
    "no lung": (lambda r, le: files.make_rtstruct({"Heart": files.outline(r)}), "draws no lung"),
    "empty": (lambda r, le: files.make_rtstruct({"Lung_L": [], "Lung_R": []}), "draws no lung"),
    "one lung": (
        lambda r, le: files.make_rtstruct({"Lung_L": files.outline(le)}),
        "draws the left lung alone",
    ),
    "twice": (
        lambda r, le: files.make_rtstruct(
            {"Lung_L": files.outline(le), "LLung": files.outline(le), "Lung R": files.outline(r)}
        ),
        "ROIs 1 and 2 are the left lung",
    ),
    "another series": (
        lambda r, le: files.make_rtstruct({"lungs": files.outline(r)}, series="1.2.3"),
        "another series",
    ),
    "another frame": (
        lambda r, le: files.make_rtstruct({"lungs": files.outline(r)}, frame="1.2.3"),
        "another frame of reference",
    ),
    "no reference": (
        lambda r, le: files.make_rtstruct({"lungs": files.outline(r)}, series="", frame=""),
        "does not say which series",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_drawings_that_do_not_fit_are_refused_in_one_line(tmp_path, scan, case):
    series, right, left = scan
    make, words = REFUSED[case]
    with pytest.raises(InputError, match=words) as refusal:
        read(tmp_path, series, make(right, left))
    message = str(refusal.value)
    assert str(tmp_path / "drawn.dcm") in message and "\n" not in message
    assert not any(secret in message for secret in files.SECRETS)


def test_stray_points_enclose_nothing(tmp_path, scan):
    series, right, left = scan
    stray = files.contour(files.to_patient([(3, 3)], 0))
    contours = {"Lung_R": [stray, *files.outline(right)], "Lung_L": files.outline(left)}
    drawn = read(tmp_path, series, files.make_rtstruct(contours))
    np.testing.assert_array_equal(drawn.mask(RIGHT_LUNG), volumes.from_grid(right.T, drawn.grid))


def test_damaged_files_are_refused(tmp_path, scan):
    series, right, left = scan
    drawing = files.make_rtstruct({"lungs": files.outline(right | left)})
    path = files.save_dataset(tmp_path / "a.dcm", drawing)
    whole = path.read_bytes()
    for size in (len(whole) // 4, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="a.dcm"):
            read_drawn_lungs(path, series)


def test_a_folder_holds_one_drawing(tmp_path, scan):
    series, right, left = scan
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no contours"):
        read_drawn_lungs(folder, series)
    drawing = files.make_rtstruct({"lungs": files.outline(right | left)})
    files.save_dataset(folder / "1-1.dcm", drawing)
    assert read_drawn_lungs(folder, series).mask(LUNG).any()
    files.save_dataset(folder / "1-2.dcm", drawing)
    with pytest.raises(InputError, match="1-1.dcm and 1-2.dcm"):
        read_drawn_lungs(folder, series)
