"""DICOM: files, what a screen shows of them, series, segmentations (extra `dicom`)."""
