"""What the user sees and clicks: `widget` reads the parameter node, asks the controller, and shows what it says.

The widget is made of sections, each of which knows its own part of the form: model, enhanced image, structures, sample
data, joining of sequences, result, DICOM export, log. `parameters` is what is saved with the scene, `result` the nodes
of the result in view.
Qt is imported here and nowhere below.
"""
