"""DICOM: read into images, and results written as SEG and SR."""
