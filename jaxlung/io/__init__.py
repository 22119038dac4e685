"""Reads and writes pictures, DICOM and volumes."""
