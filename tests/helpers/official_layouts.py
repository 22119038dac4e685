"""Small public sets in their official layouts, for the tests of builders and loaders.

Every function fills ROOT/NAME as its archives unpack, with drawn ellipses for lungs.
"""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def lungs(shape, seed=0):
    """right, left and heart, bool [H, W]: the patient's right is the picture's left."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    y, x = (y + 0.5) / height, (x + 0.5) / width

    def ellipse(cx, cy, rx, ry):
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    shift = 0.01 * (seed % 5)
    return (
        ellipse(0.28 + shift, 0.5, 0.16, 0.33),
        ellipse(0.72 + shift, 0.5, 0.16, 0.33),
        ellipse(0.55 + shift, 0.65, 0.13, 0.15),
    )


def film(shape, seed=0, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def white(mask):
    return mask.astype(np.uint8) * 255


def montgomery(root, stems=("MCUCXR_0001_0", "MCUCXR_0264_1", "MCUCXR_0313_1"), shape=(40, 48)):
    folder = root / "montgomery" / "MontgomerySet"
    for i, stem in enumerate(stems):
        right, left, _ = lungs(shape, i)
        save(folder / "CXR_png" / f"{stem}.png", film(shape, i))
        save(folder / "ManualMask" / "rightMask" / f"{stem}.png", white(right))
        save(folder / "ManualMask" / "leftMask" / f"{stem}.png", white(left))
        reading = folder / "ClinicalReadings" / f"{stem}.txt"
        reading.parent.mkdir(exist_ok=True)
        reading.write_text(f"Patient's Sex: {'FM'[i % 2]} \nPatient's Age: 0{20 + i}Y\nnormal\n")
    return folder


def montgomery_zip(root, **options):
    """The archive as the NLM has it, at its top MontgomerySet/."""
    folder = montgomery(root / "unpacked", **options)
    path = root / "NLM-MontgomeryCXRSet.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def shenzhen(root, count=4, without_mask=2, shape=(36, 30)):
    folder = root / "shenzhen"
    for i in range(count + without_mask):
        stem = f"CHNCXR_{i + 1:04d}_{i % 2}"
        image = film(shape, 100 + i)
        if i == 1:  # some are RGB
            image = np.repeat(image[..., None], 3, axis=-1)
        save(folder / "ChinaSet_AllFiles" / "CXR_png" / f"{stem}.png", image)
        reading = folder / "ChinaSet_AllFiles" / "ClinicalReadings" / f"{stem}.txt"
        reading.parent.mkdir(exist_ok=True)
        reading.write_text("male 45yrs\nnormal")
        if i < count:
            right, left, _ = lungs(shape, i)
            save(folder / "mask" / "mask" / f"{stem}_mask.png", white(right | left))
    return folder


def jsrt(root, films=("JPCLN001", "JPCLN002", "JPCNN001", "JPCNN002"), side=32):
    folder = root / "jsrt"
    organs = ("right lung", "left lung", "heart", "right clavicle", "left clavicle")
    (folder / "All247images").mkdir(parents=True)
    for i, name in enumerate(films):
        values = np.random.default_rng(i).integers(0, 4096, (side, side))
        values.astype(">u2").tofile(folder / "All247images" / f"{name}.IMG")
        fold = "fold1" if int(name[-3:]) % 2 else "fold2"
        right, left, heart = lungs((side // 2, side // 2), i)
        clavicle = np.zeros_like(heart)
        clavicle[1, 2:5] = True
        planes = (right, left, heart, clavicle, clavicle[:, ::-1])
        for organ, mask in zip(organs, planes, strict=True):
            save(folder / "scratch" / fold / "masks" / organ / f"{name}.gif", white(mask))
    return folder


def covid_cxr(root, count=3, shape=(30, 44), coco=False):
    """The last image has its right lung outlined alone."""
    folder = root / "covid_cxr"
    rows, metadata, annotations = [], [], []
    names = ["Right Lung", "Left Lung", "Cardiomediastinum", "Airways"]
    for i in range(count + 1):
        name = f"film-{i}.{'jpg' if i % 2 else 'png'}"
        save(folder / "images" / name, film(shape, 200 + i))
        metadata.append(
            {
                "patientid": str(i // 2),
                "filename": name,
                "sex": "F",
                "age": "50",
                "finding": "COVID-19",
                "view": "AP",
                "license": "CC BY",
            }
        )
        for j, plane in enumerate([*lungs(shape, i), np.ones(shape, bool)]):
            if i == count and j == 1:
                continue
            ys, xs = np.nonzero(plane)
            top, left, bottom, right = ys.min(), xs.min(), ys.max() + 1, xs.max() + 1
            mask = f"masks/{i}_{j}.png"
            save(folder / mask, white(plane[top:bottom, left:right]))
            rows.append(
                {
                    "Class": f"COVID-19 {names[j]}",
                    "Template Name": names[j],
                    "Filename": name,
                    "Mask": mask,
                    "Top": top,
                    "Left": left,
                    "Resolution": f"{shape[1]}x{shape[0]}",
                }
            )
            square = [int(v) for v in (left, top, right, top, right, bottom, left, bottom)]
            annotations.append({"image_id": i, "category_id": j, "segmentation": [square]})
    write_csv(folder / "metadata.csv", metadata)
    if coco:
        images = [{"id": i, "file_name": row["filename"]} for i, row in enumerate(metadata)]
        categories = [{"id": j, "name": name} for j, name in enumerate(names)]
        (folder / "annotation").mkdir()
        (folder / "annotation" / "results.json").write_text(
            json.dumps({"images": images, "categories": categories, "annotations": annotations})
        )
    else:
        write_csv(folder / "structure.csv", rows)
    return folder


def covid19_radiography(root, count=1):
    folder = root / "covid19_radiography" / "COVID-19_Radiography_Dataset"
    for i, kind in enumerate(("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")):
        for j in range(count):
            right, left, _ = lungs((256, 256), i + j)
            name = f"{kind}-{j + 1}.png"
            save(folder / kind / "images" / name, film((299, 299), 300 + 10 * i + j))
            mask = np.repeat(white(right | left)[..., None], 3, axis=-1)
            save(folder / kind / "masks" / name, mask)
    return folder


def chest_xray_masks_and_labels(root, shape=(30, 30)):
    """Two of Montgomery, two of Shenzhen, and one without a mask."""
    folder = root / "chest_xray_masks_and_labels" / "Lung Segmentation"
    masks = {
        "MCUCXR_0001_0": "MCUCXR_0001_0",
        "MCUCXR_0002_1": "MCUCXR_0002_1",
        "CHNCXR_0001_0": "CHNCXR_0001_0_mask",
        "CHNCXR_0002_1": "CHNCXR_0002_1_mask",
        "CHNCXR_0025_0": None,
    }
    for i, (stem, mask) in enumerate(masks.items()):
        save(folder / "CXR_png" / f"{stem}.png", film(shape, 400 + i))
        right, left, _ = lungs(shape, i)
        if mask:
            save(folder / "masks" / f"{mask}.png", white(right | left))
    return folder


def runs(mask):
    """CheXmask's run lengths, by a loop."""
    words, flat, i = [], mask.ravel(), 0
    while i < flat.size:
        if flat[i]:
            start = i
            while i < flat.size and flat[i]:
                i += 1
            words += [str(start + 1), str(i - start)]
        i += 1
    return " ".join(words)


def chexmask(root, shape=(32, 32)):
    """Four images of three patients; the last mask is not good enough."""
    folder = root / "chexmask"
    rows, entries = [], []
    for i, (name, dice) in enumerate(
        [
            ("00000001_000.png", 0.9),
            ("00000001_001.png", 0.7),
            ("00000002_000.png", 0.8),
            ("00000003_000.png", 0.69),
        ]
    ):
        right, left, heart = lungs(shape, i)
        save(folder / "images" / f"images_{i // 2:03d}" / name, film(shape, 500 + i))
        rows.append(
            {
                "Image Index": name,
                "Dice RCA (Max)": 0.95,
                "Dice RCA (Mean)": dice,
                "Landmarks": "1,2,3,4,5,6",
                "Left Lung": runs(left),
                "Right Lung": runs(right),
                "Heart": runs(heart),
                "Height": shape[0],
                "Width": shape[1],
            }
        )
        entries.append(
            {
                "Image Index": name,
                "Finding Labels": "No Finding" if i else "Mass",
                "Follow-up #": 0,
                "Patient ID": int(name[:8]),
                "Patient Age": 58,
                "Patient Gender": "F",
                "View Position": "PA",
                "OriginalImage[Width": 64,
                "Height]": 48,
                "OriginalImagePixelSpacing[x": 0.14,
                "y]": 0.14,
            }
        )
    write_csv(folder / "ChestX-Ray8.csv", rows)
    write_csv(folder / "Data_Entry_2017_v2020.csv", entries)
    return folder


def rectangle(left, top, right, bottom):
    """A polygon's corners as Darwin JSON has them."""
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return [{"x": float(x), "y": float(y)} for x, y in corners]


KERMANY_LUNGS = ((4, 6, 16, 30), (24, 6, 36, 30))  # left, top, right, bottom, of 40 wide, 36 high


def darwin(name, shape=(36, 40), boxes=KERMANY_LUNGS, ignored=()):
    """A file of V7's release, Darwin JSON 1.0."""
    lungs = [{"name": "Lung", "polygon": {"path": rectangle(*box)}} for box in boxes]
    others = [{"name": "Ignore", "polygon": {"path": rectangle(*box)}} for box in ignored]
    image = {"filename": name, "original_filename": name, "height": shape[0], "width": shape[1]}
    tag = {"name": "Bacterial Pneumonia", "tag": {}}
    return {"dataset": "COVID-19", "image": image, "annotations": [*lungs, *others, tag]}


def kermany_v7(root):
    """Five films of four patients that V7 outlined, one that it did not, and a film of others."""
    folder = root / "kermany_v7"
    films = (
        "train/NORMAL/IM-0115-0001",
        "train/NORMAL/NORMAL2-IM-0439-0001-0002",
        "train/PNEUMONIA/person1_bacteria_2",
        "train/PNEUMONIA/person2_bacteria_3",
        "test/NORMAL/IM-0001-0001",
        "test/PNEUMONIA/person1_virus_6",
    )
    for i, name in enumerate(films):
        save(folder / "chest_xray" / f"{name}.jpeg", film((36, 40), 600 + i))
    outlined = [f"{Path(name).name}.jpeg" for name in films if "person2" not in name]
    for i, name in enumerate((*outlined, "nejmoa2001191_f1-PA.jpeg")):
        write_darwin(folder, 1676192 + i, darwin(name))
    return folder


def write_darwin(folder, number, entry):
    path = folder / "covid-19-xray-dataset" / "annotations" / "all-images" / f"{number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entry))
    return path


def write_csv(path, rows):
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
