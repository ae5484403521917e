"""A run from the click to its end: `controller` says what happens in which order, by the table in `states`.

A `job` asks the worker's `process`, which `interpreter` finds a Python for, part by part: a `segment_part` for each
image, or what the room `dicom` makes for each DICOM SEG. Nothing here waits: whoever started a job polls it.
"""
