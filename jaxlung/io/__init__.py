"""Reading and writing pictures, DICOM and volumes."""
