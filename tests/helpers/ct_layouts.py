"""Small public sets of CT in their official layouts: every function fills ROOT/NAME."""

import numpy as np
from PIL import Image

from tests.helpers import drawn_files as files
from tests.helpers.ct_scans import nibabel

PATIENTS = ("LCTSC-Train-S1-001", "LCTSC-Train-S2-004", "LCTSC-Test-S3-101")


def lctsc(root, patients=PATIENTS):
    """As the NBIA Data Retriever writes it. Returns the folder of the patients."""
    collection = root / "lctsc" / "manifest-1557326747206" / "LCTSC"
    for i, patient in enumerate(patients):
        study = collection / patient / "11-16-2003-NA-RTRCCTTHORAX-39664"
        hu, right, left = files.chest((48, 40, 7 + i))
        files.write_series(study / "0.000000-CT-63530", hu)
        drawing = files.make_rtstruct(
            {
                "SpinalCord": files.outline(np.ones_like(left)),
                "Lung_L": files.outline(left),
                "Lung_R": files.outline(right),
            }
        )
        files.save_dataset(study / "1.000000-.simplified-02503" / "1-1.dcm", drawing)
    (collection.parent / "metadata.csv").write_text("Series UID,Collection\n")
    (collection / "LICENSE").write_text("CC BY 3.0")
    return collection


def kaggle_lungs_ct(root, count=4):
    """Slices of `count` patients, and a scan as NIfTI arrays [slices, rows, columns]."""
    folder = root / "kaggle_lungs_ct"
    hu, right, left = files.chest((40, 40, 9))
    lungs = right | left
    for name in ("2d_images", "2d_masks", "3d_images"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        stem = f"ID_{i:04d}_Z_{140 + i:04d}.tif"
        Image.fromarray(hu[3 + i % 3].astype(np.int32)).save(folder / "2d_images" / stem)
        mask = lungs[3 + i % 3].astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "2d_masks" / stem)
    for name, voxels in (("IMG_0002", hu), ("MASK_0002", lungs * 255)):
        image = nibabel.Nifti1Image(voxels.astype(np.int16), np.eye(4))
        nibabel.save(image, folder / "3d_images" / f"{name}.nii.gz")
    (folder / "lung_stats.csv").write_text("x\n")
    return folder
