"""DICOM as Slicer has it: what is loaded as one cine, which instances a volume came from, and what is exported.

`import_plugin` offers stacks whose slices are series of their own to Slicer's DICOM module, and `joining` makes one
sequence of those that are in the scene already: `pictures` asks the database for what `find_stacks` needs, `pixels`
reads the grey values. `instances` finds the files that an image was loaded from, `export` makes the parts
(`export_part`) that the worker writes as DICOM SEG, and `phantom` writes series that the self test loads and exports.
"""
