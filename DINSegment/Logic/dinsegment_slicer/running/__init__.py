"""A run from the click to its end: `controller` says what happens in which order, by the table in `states`.

What the user asks for is one of `requests`, what the user is told one of `messages`. A `worker` does one `job` after
the other, in a `warm_process`, which is a `process` that stays, and which `interpreter` finds a Python for. A job asks
it part by part: a `segment_part` for each image, a `correct_part`, `adapt_part`, `samples_part` or `unexpected_part` (a
`result_part` both) for what is asked of a result, or what the room `dicom` makes for each DICOM SEG; `pace` tells how
long the rest takes. The `reporter` has a process of its own and asks it a `report_part`; the Segment Editor's effect
asks a `stroke_part`. Nothing here waits: whoever started a job polls it.
"""
