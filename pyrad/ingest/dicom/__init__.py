"""A DICOM file -> what its header says and the stored values of its frames."""
