"""DICOM series as scanners, archives and anonymisers leave them.

`series` is the way: `files` opens a folder, zip archive or DICOMDIR; `header` reads each file's header; `frames` takes
the frames apart, one of a file or many of an enhanced one; `sorting` chooses the series, orders slices and phases and
finds the grid that they lie on; `pixels` decodes them. `match` finds the instances of an image that another program has
read. `dinsegment.images.reading` makes volumes of what comes out.
"""
