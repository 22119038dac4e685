"""A small CT as a DICOM series, with lungs drawn on it: contours (RTSTRUCT) and SEG."""

from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from tests.helpers.ct_scans import body

CT, RTSTRUCT, SEG = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "481.3", "66.4"))
SERIES, FRAME = "1.2.826.0.1.3680043.1", "1.2.826.0.1.3680043.2"
SECRETS = ("Doe^Jane", "ID-4711", "St. Elsewhere")
SPACING = (2.0, 1.5)  # of rows and columns
STEP = 3.0
ORIGIN = (-30.0, -40.0, 100.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def chest(shape=(48, 40, 9)):
    """HU and the right and left lung, [slices, rows, columns], feet first, as a viewer shows it."""
    hu_RAS, lungs_RAS = body(shape)
    right_RAS = lungs_RAS & (np.arange(shape[0])[:, None, None] >= shape[0] // 2)
    return [
        a.transpose(2, 1, 0)[:, ::-1, ::-1] for a in (hu_RAS, right_RAS, lungs_RAS & ~right_RAS)
    ]


def new_dataset(uid, number, **fields):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid, f"1.2.826.0.1.3680043.3.{number}"
    dataset.file_meta.MediaStorageSOPClassUID = uid
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.InstitutionName = SECRETS
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


def save_dataset(path, dataset):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def directions(axes=AXIAL):
    row_3, column_3 = np.array(axes).reshape(2, 3)
    return row_3, column_3


def position(index, axes=AXIAL):
    """The first pixel of a slice; slices follow one another along S, whatever their tilt."""
    return np.array(ORIGIN) + (0, 0, STEP * index)


def write_series(folder, hu_SxRxC, axes=AXIAL, series=SERIES, frame=FRAME):
    for i, hu_RxC in enumerate(hu_SxRxC):
        dataset = new_dataset(CT, i, Modality="CT", StudyInstanceUID="1.2.826.0.1.3680043.4")
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
        dataset.Rows, dataset.Columns = hu_RxC.shape
        dataset.PixelSpacing, dataset.ImageOrientationPatient = list(SPACING), list(axes)
        dataset.ImagePositionPatient = [float(x) for x in position(i, axes)]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 0
        dataset.PixelData = (hu_RxC + 1024).astype("<u2").tobytes()
        save_dataset(folder / f"{len(hu_SxRxC) - i:03d}.dcm", dataset)  # against the positions
    return folder


def trace(mask_RxC, fine=4):
    """Outlines of a mask and of its holes, [N, 2]: x and y, where 0 is a pixel's centre."""
    big = np.kron(mask_RxC.astype(np.uint8), np.ones((fine, fine), np.uint8))
    outlines, _ = cv2.findContours(big, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [(line[:, 0] + 0.5) / fine - 0.5 for line in outlines]


def to_patient(points_Nx2, index, axes=AXIAL):
    """Points of pixels of a slice in millimetres, L, P, S (PS3.3 C.7.6.2.1.1)."""
    row_3, column_3 = directions(axes)
    x_N, y_N = np.asarray(points_Nx2, float).T
    return (
        position(index, axes)
        + x_N[:, None] * row_3 * SPACING[1]
        + y_N[:, None] * column_3 * SPACING[0]
    )


def contour(points_Nx3, kind="CLOSED_PLANAR"):
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points_Nx3)
    item.ContourData = [f"{value:.5f}" for value in np.ravel(points_Nx3)]
    return item


def outline(mask_SxRxC, axes=AXIAL):
    """The contours of a mask."""
    return [
        contour(to_patient(line, i, axes))
        for i, mask_RxC in enumerate(mask_SxRxC)
        for line in trace(mask_RxC)
    ]


def make_rtstruct(contours_by_name, series=SERIES, frame=FRAME):
    dataset = new_dataset(RTSTRUCT, 900, Modality="RTSTRUCT")
    referenced, study, of_series = Dataset(), Dataset(), Dataset()
    of_series.SeriesInstanceUID = series
    study.RTReferencedSeriesSequence = [of_series]
    referenced.FrameOfReferenceUID, referenced.RTReferencedStudySequence = frame, [study]
    dataset.ReferencedFrameOfReferenceSequence = [referenced]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(contours_by_name.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, list(contours)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    return dataset


def write_patient(root: Path, stem, seed=0):
    """Writes a pair of a training folder: images/STEM/ and masks/STEM.dcm with contours."""
    hu, right, left = chest((48, 40, 9 + seed % 3))
    write_series(
        root / "images" / stem, hu + np.random.default_rng(seed).integers(-20, 20, hu.shape)
    )
    drawing = make_rtstruct({"Lung_L": outline(left), "Lung_R": outline(right)})
    save_dataset(root / "masks" / f"{stem}.dcm", drawing)
    return right, left
