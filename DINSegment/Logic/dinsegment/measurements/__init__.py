"""What a segmentation measures.

`volumes` counts the voxels of each segment and gives millilitres; `function` makes ejection fraction and mass of the
phases of one heart beat; `report` has both as measurements.json says them.
"""
