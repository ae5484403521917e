"""Results as DICOM instances that refer to the images they were made from.

`source` makes headers that highdicom takes of whatever the images have, and `place` tells where they lie on the grid of
their volume; `seg` makes a DICOM SEG of masks, `sr` a DICOM SR of measurements, whose
`numbers` have codes, `parametric_map` says where samples disagree, and `pages` puts the report itself into the study;
`save` writes them. `export` makes a DICOM SEG of a segmentation in a file, which `grid` puts on the grid of the images.
"""
