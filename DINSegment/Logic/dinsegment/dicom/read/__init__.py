"""DICOM studies as scanners, archives and anonymisers leave them.

`series` is the way to voxels: `files` opens a folder, zip archive or DICOMDIR; `header` and `headers` read each file's
header, once; `frames` takes the frames apart, one of a file or many of an enhanced one; `arrange` orders them by slice
and phase on a grid, of one series by `sorting`, of a stack from several as `stacks` has found it; `pixels` decodes
them, with `jpeg` for what is compressed so. `dinsegment.images.reading` makes volumes of what comes out.

`stacks` finds what is in a study, from any source: `picture` is what it knows of a picture, `pieces` sorts those of a
series, `kinds` tells what they show, `lattice` finds even distances, `join` says which slices belong together,
`placing` puts them on one grid, `neighbours` names what does not fit; a `stack` comes out. `study` makes pictures of
headers, `choose` says which stack is meant, `parts` finds the studies of a folder of many. `patient` reads what a
report wants to know. `match` finds the instances of an image that another program has read.
"""
