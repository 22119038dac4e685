"""CT volumes: their units, and formats beside NIfTI and DICOM."""
