"""DICOM series as scanners and archives write them."""
