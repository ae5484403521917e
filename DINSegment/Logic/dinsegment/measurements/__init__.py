"""What a segmentation measures.

`volumes` counts the voxels of each segment and gives millilitres; `function` makes ejection fraction and mass of the
phases of one heart beat. A number, or why there is none, is a `measurement`; `heart` makes those of both ventricles,
with `rates` from the smoothed curve and indexed to the size of the `body`; `rings` and `walls` measure the wall in the
AHA's segments, and `infarct` how much of it is damaged; `organs` and `extents` are for a CT of the abdomen. `normals`
says in which of the published `ranges` a number lies, `intervals` how far it can be trusted where samples were drawn.
`study` has all that one study measures, computed once, and `report` says it as measurements.json does.
"""
