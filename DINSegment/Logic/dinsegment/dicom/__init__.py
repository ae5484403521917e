"""DICOM: `read` makes arrays of series, `write` makes instances of results.

Both have in common the instances that an image was read from (`source`), UIDs (`uids`) and coded concepts (`codes`).
"""
