"""Lungs that people drew on a DICOM series: contours (RTSTRUCT) and segmentations (SEG)."""
