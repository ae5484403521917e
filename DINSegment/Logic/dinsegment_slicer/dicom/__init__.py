"""DICOM as Slicer has it: which instances a volume was loaded from, and what is exported of a segmentation.

`instances` asks Slicer's DICOM database, `export` makes the parts (`export_part`) that the worker writes as DICOM SEG,
and `phantom` writes a series that the self test exports.
"""
