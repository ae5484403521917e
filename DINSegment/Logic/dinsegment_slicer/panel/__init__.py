"""What the user sees and clicks: `widget` makes the sections of the panel and tells each what happens.

A section is a file of its own, `..._section.py`, and knows its own part of the form: image, joining of sequences,
sample data, model, structures, run, enhanced image, result, correction, samples ("How sure?"), what was not expected,
report with the wall's segments, DICOM export, views, log. It has those methods of `section.Section` that it needs, and
is added by a line in `_addSections` of `widget`. `parameters` is what is saved with the scene, `result` the nodes of
the result in view, `asked` what of it is asked about again, `overlays` what lies over its images, `stops` where a
person should look, `report_source` what the report is made of. Qt is imported here and nowhere below.
"""
