"""A run from the click to its end: `controller` says what happens in which order, by the table in `states`.

What the user asks for is one of `requests`, what the user is told one of `messages`. A `worker` does one `job` after
the other, in a `warm_process`, which is a `process` that stays, and which `interpreter` finds a Python for. A job asks
it part by part: a `segment_part` for each image, or what the room `dicom` makes for each DICOM SEG; `pace` tells how
long the rest takes. Nothing here waits: whoever started a job polls it.
"""
