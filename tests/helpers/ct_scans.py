"""Small chest CTs with their masks, as NIfTI files, and a recipe that trains on them."""

from pathlib import Path

import numpy as np
import pytest

from configs import ct as ct_recipe

nibabel = pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')
AXES = ["RAS", "LPS", "LAS", "SPL", "ASR", "IRP"]


def body(shape=(24, 20, 9)):
    """A chest in R, A, S order: air about, two lungs, the left one smaller; and their mask."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(x**2 / 0.9 + y**2 / 0.7) < 1] = 40
    height = 0.7 - 0.2 * z  # wider at the bottom
    left = ((x + 0.45) ** 2 / 0.06 + y**2 / 0.25) < height**2
    right = ((x - 0.45) ** 2 / 0.10 + (y - 0.1) ** 2 / 0.3) < height**2
    lungs = (left | right) & (np.abs(z) < 0.8)
    hu[lungs] = -800
    return hu.astype(np.int16), lungs


def affine_of(sizes=(1.5, 2.0, 3.0), origin=(10.0, -20.0, 5.0)):
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = origin
    return affine


def save(path, voxels, affine, axes="RAS"):
    """Writes voxels that are given in R-A-S in another order of axes, at the same place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels.astype(np.int16), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    image = image.as_reoriented(turn)
    assert "".join(nibabel.aff2axcodes(image.affine)) == axes
    nibabel.save(image, path)
    return path


def in_ras(path):
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asanyarray(image.dataobj), image.affine


def write_scans(root: Path) -> Path:
    """Writes six scans of various orientation and length, and returns the folder."""
    for i in range(6):
        hu, lungs = body((24 + i, 20, 7 + i))
        noise = np.random.default_rng(i).integers(-20, 20, hu.shape)
        name = f"scan_{i}.nii.gz"
        save(root / "images" / name, hu + noise, affine_of(), AXES[i])
        save(root / "masks" / name, lungs * (1 + i % 3), affine_of(), AXES[i])
    return root


def config_of(folder, **data):
    config = ct_recipe.get_config()
    config.data.dir = str(folder)
    config.data.update(
        {"size": 32, "loader": "memory", "test_fraction": 0.3, "validation_fraction": 0.3, **data}
    )
    config.model.update({"width": 4, "depth": 1})
    # A small network and few steps learn what the recipe draws too little of.
    plain = ("window", "invert", "noise", "blur", "elastic", "occlusion")
    config.augment.update(dict.fromkeys(plain, 0.0))
    config.loss.edge = 0.0
    config.train.update({"batch_size": 2, "num_epochs": 12})
    config.optim.learning_rate = 1e-2
    return config
