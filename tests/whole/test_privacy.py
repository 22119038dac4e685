"""No header field that identifies a patient gets into an output, a log, an error or a record.

Names are planted wherever a header has room; every command runs over the files; then each byte
that was written or said is searched. File names and metadata.csv are the user's own words.
"""

import base64
import gzip
import io
import json
import logging
import re

import jax
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

pydicom = pytest.importorskip("pydicom", reason='needs pip install "jaxlung[ct]"')
nibabel = pytest.importorskip("nibabel", reason='needs pip install "jaxlung[ct]"')
pytest.importorskip("gdcm", reason='needs pip install "jaxlung[ct]"')

from pydicom.datadict import DicomDictionary  # noqa: E402

from configs import ct as ct_recipe  # noqa: E402
from configs import tiny  # noqa: E402
from jaxlung.evaluation.evaluate import evaluate  # noqa: E402
from jaxlung.io.dicom.file import _ATTRIBUTES  # noqa: E402
from jaxlung.phantom import radiographs  # noqa: E402
from jaxlung.system.silence import silence  # noqa: E402
from jaxlung.train.loop import train_and_evaluate  # noqa: E402
from tests.helpers.dicom_files import dicom, saved  # noqa: E402
from tests.helpers.predict_command import jaxlung as run  # noqa: E402
from tests.helpers.tiny_runs import no_steps  # noqa: E402

NAME, NUMBER, DAY, UNIQUE = "Quuxson^Zebediah", "QX4711", "19320229", "1.2.999.4711.4711"
TOKENS = ("quuxson", "zebediah", "qx4711", "19320229", "1932-02-29", "4711.4711")
PLANTED = {
    **dict.fromkeys(("PN", "LO", "ST", "LT", "UT", "UC"), NAME),
    **dict.fromkeys(("SH", "AE", "CS"), NUMBER),
    **{"DA": DAY, "DT": DAY, "UI": UNIQUE, "UR": f"http://{NUMBER}"},
}
# What says how to read the file, and where a slice lies. Any orientation can be read.
SPARED = {
    *_ATTRIBUTES,
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
} - {"PatientOrientation"}
SPLITS = {"train": list("abcd"), "validation": ["e"], "test": ["f"]}
STEMS = [stem for stems in SPLITS.values() for stem in stems]


def header():
    """Every attribute of the standard that holds text, a private one, and one in a sequence."""
    dataset = pydicom.Dataset()
    with silence():
        for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
            known = not retired and tag >= 0x00080000 and keyword and keyword not in SPARED
            if known and tag >> 16 < 0x7FE0 and (value := PLANTED.get(vr)):
                dataset.add_new(tag, vr, value)
        dataset.add_new(0x00091001, "LO", NAME)
        item = pydicom.Dataset()
        item.PatientName, item.PatientID = NAME, NUMBER
        dataset.RequestAttributesSequence = [item]
        dataset.add_new(0x60000022, "LO", NAME)  # of an overlay
    assert len(dataset) > 900
    return dataset


def write_dicom(path, pixels, planted, **attributes):
    """Names in the attributes, in the file's own header and before and after the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with silence():
        dataset = dicom(pixels, **attributes)
        dataset.update(planted)
        dataset.file_meta.SourceApplicationEntityTitle = NUMBER
        dataset.file_meta.PrivateInformationCreatorUID = UNIQUE
        dataset.file_meta.PrivateInformation = NAME.encode()
        dataset.preamble = NAME.encode().ljust(128, b"\0")
        dataset.add_new(0xFFFCFFFC, "OB", NAME.encode())
        return saved(path, dataset)


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngInfo()
    text.add_text("Comment", NAME)
    Image.fromarray(pixels).save(path, pnginfo=text)


def write_nifti(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, np.diag([1.5, 2.0, 3.0, 1.0]))
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = NAME[: image.header[field].dtype.itemsize].encode()
    for code in (2, 4, 6):  # DICOM (which this is not), AFNI, comment
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, NAME.encode()))
    nibabel.save(image, path)


def words(data):
    """The planted words in some bytes, in pictures and archives that they hold too."""
    found = set()
    for text in (data, data.replace(b"\0", b"")):  # UTF-16 of either order
        found |= {token for token in TOKENS if token.encode() in text.lower()}
    if data[:2] == b"\x1f\x8b":
        found |= words(gzip.decompress(data))
    if data[:4] == b"\x89PNG":
        found |= words(repr(Image.open(io.BytesIO(data)).info).encode())
    for picture in re.findall(rb"base64,([A-Za-z0-9+/=]{40,})", data):
        found |= words(base64.b64decode(picture))
    return found


def assert_clean(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not words(path.read_bytes()), path


@pytest.fixture
def said(capfd, caplog):
    """All that was said until it is called."""
    caplog.set_level(logging.DEBUG)

    def collect():
        out, err = capfd.readouterr()
        logged = [f"{record.getMessage()} {record.exc_info}" for record in caplog.records]
        caplog.clear()
        return "\n".join([out, err, *logged])

    return collect


def config_of(recipe, root, name):
    config = recipe.get_config()
    (root / "lists.json").write_text(json.dumps(SPLITS))
    config.data.update(
        {
            "name": name,
            "dir": str(root),
            "size": 32,
            "loader": "memory",
            "split_file": str(root / "lists.json"),
        }
    )
    config.model.update({"width": 4, "depth": 1})
    config.train.update({"batch_size": 4, "num_epochs": 1})
    return config


def damaged(directory, source):
    """Files that cannot be read, whose errors might quote what they hold."""
    directory.mkdir()
    data = source.read_bytes()
    for i, cut in enumerate((len(data) // 3, len(data) // 2, len(data) - 60)):
        (directory / f"cut{i}{source.suffix}").write_bytes(data[:cut])
    rng = np.random.default_rng(0)
    for i in range(8):
        broken = bytearray(data)
        broken[132:] = bytes(
            b ^ 255 if rng.random() < 0.001 else b
            for b in broken[132:]  # about one byte in a thousand
        )
        (directory / f"flip{i}{source.suffix}").write_bytes(broken)
    return sorted(directory.iterdir())


def test_x_rays(tmp_path, said):
    root, out = tmp_path / "in", tmp_path / "out"
    planted = header()
    images, masks = (np.asarray(a) for a in radiographs(jax.random.key(0), len(STEMS), size=32))
    for stem, image, mask in zip(STEMS, images, masks, strict=True):
        write_dicom(root / "images" / f"{stem}.dcm", image, planted, PixelSpacing=[1, 1])
        write_png(root / "masks" / f"{stem}.png", mask.astype(np.uint8) * 255)
    first = root / "images" / "a.dcm"
    assert set(TOKENS) - {"1932-02-29"} <= words(first.read_bytes())
    assert words((root / "masks" / "a.png").read_bytes())

    with no_steps():  # a step sees pixels alone
        train_and_evaluate(config_of(tiny, root, "folder"), out / "run")
    evaluate(out / "run", data=root, split="all", out=out / "eval")
    model = ["--workdir", out / "run"]
    run("predict", *sorted((root / "images").iterdir()), *model, "--out", out / "masks")
    run(
        "score",
        "--pred",
        out / "masks",
        "--truth",
        root / "masks",
        "--images",
        root / "images",
        "--out",
        out / "score",
    )
    run("data", "check", root, "--out", out / "check", code=None)
    assert_clean(out)
    assert not words(said().encode())

    broken = damaged(tmp_path / "broken", first)
    run("predict", *broken, *model, "--out", out / "broken", code=1)
    text = said()
    assert "error: " in text and "Traceback" not in text and not words(text.encode())
    (root / "images" / "a.dcm").write_bytes(broken[0].read_bytes())
    run("data", "check", root, "--out", out / "check2", code=None)
    assert_clean(out)
    assert not words(said().encode())


def chest(depth=6):
    """A small scan in Hounsfield units [x, y, z] and its lungs."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 20, depth)), indexing="ij")
    lungs = ((np.abs(x) - 0.45) ** 2 / 0.08 + y**2 / 0.3) < 0.6
    body = np.where(x**2 / 0.9 + y**2 / 0.8 < 1, 40, -1000)
    return np.where(lungs, -800, body).astype(np.int16), lungs.astype(np.uint8)


def test_ct(tmp_path, said):
    root, out, series = tmp_path / "in", tmp_path / "out", tmp_path / "series"
    for i, stem in enumerate(STEMS):
        hu, lungs = chest()
        write_nifti(root / "images" / f"{stem}.nii.gz", hu + np.int16(i))
        write_nifti(root / "masks" / f"{stem}.nii.gz", lungs)
    scan = root / "images" / "f.nii.gz"
    assert {"quuxson", "zebediah"} <= words(scan.read_bytes())
    planted = header()
    for z in range(4):
        write_dicom(
            series / f"{z}.dcm",
            chest()[0][:, :, z].T,
            planted,
            Modality="CT",
            SeriesInstanceUID=UNIQUE,
            PixelSpacing=[2, 1.5],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, 3 * z],
        )

    with no_steps():  # a step sees pixels alone
        train_and_evaluate(config_of(ct_recipe, root, "ct"), out / "run")
    evaluate(out / "run")
    model = ["--workdir", out / "run"]
    run("predict", scan, series, *model, "--out", out / "masks")
    run("data", "check", root, "--out", out / "check", code=None)
    assert {"f.nii.gz", "series.nii.gz"} <= {path.name for path in (out / "masks").iterdir()}
    assert_clean(out)
    assert not words(said().encode())

    for i, path in enumerate(damaged(tmp_path / "broken", series / "3.dcm")):
        (series / "3.dcm").write_bytes(path.read_bytes())
        run("predict", series, *model, "--out", out / f"broken{i}", code=None)
    broken = tmp_path / "broken.nii"
    data = bytearray(gzip.decompress(scan.read_bytes()))
    for start in (70, 123, 252, 256, 280, 344, 352):  # types, codes, units, magic, extensions
        data[start : start + 4] = b"\xffQX\x7f"
        broken.write_bytes(data)
        run("predict", broken, *model, "--out", out / "broken", code=None)
        data = bytearray(gzip.decompress(scan.read_bytes()))
    (root / "masks" / "f.nii.gz").write_bytes((root / "masks" / "f.nii.gz").read_bytes()[:-50])
    with pytest.raises(ValueError) as error:
        evaluate(out / "run", data=root, split="all", out=out / "eval")
    assert_clean(out)
    text = said() + str(error.value)
    assert "error: " in text and "Traceback" not in text and not words(text.encode())
