"""What the user sees and clicks: `widget` makes the sections of the panel and tells each what happens.

A section is a file of its own, `..._section.py`, and knows its own part of the form: image, joining of sequences,
sample data, model, structures, run, enhanced image, result, report, DICOM export, views, log. It has those methods of
`section.Section` that it needs, and is added by a line in `_addSections` of `widget`. `parameters` is what is saved
with the scene, `result` the nodes of the result in view.
Qt is imported here and nowhere below.
"""
