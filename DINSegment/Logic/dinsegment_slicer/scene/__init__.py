"""Nodes of the MRML scene: what is read from them, what a result adds, and how it is looked at.

`reading` takes images out of nodes, `nodes` those of volumes and `sequences` those of cines, which `browsers` show.
`nodes` and `sequence_results` add what comes of them, as `content` and `segments` make it; `changes` sees to it that
all of it is added or nothing. `stacks` adds a cine from many series. `views` shows original and enhanced image side by
side in one of the `layouts`, with `placement` of the slices and `annotations` in the corners; `preview` follows the
enhancement's parameters. `segment_display` and `terminology` say how segments look and what they are, `labelmaps` where
they lie, `measure` how large they are, of which `plots` and `tables` are made, `edits` which of them were corrected by
hand, `findings` what looks wrong. `task_labels` and `segment_voxels` read segments as labels; `corrections` replaces
them by what was learned, in one step that can be undone, and `slice_notes` remember what is known of each slice.
`overlay` lays a map over the image; `sample_notes` keep what samples tell of a result, `sample_intervals` how far its
numbers can be trusted. `aha` adds the wall's segments, `anterior` the point that names them, `report_table` the
report's numbers. `sample_data` and `sample_progress` add generated images.
"""
