"""Which stacks there are in a study, whatever series its scanner has stored them in.

`find_stacks(pictures) -> list[Stack]` is the way, of records that `picture_of` makes of a file's header, or of the tags
that a database has (`picture_of(file, lambda keyword: values.get(TAGS.get(keyword), ""))`, where `values` are texts by
"gggg,eeee"). It needs numpy alone, so that 3D Slicer can ask before anything else is installed.
"""

from __future__ import annotations

from dinsegment.dicom.read.picture import TAGS, Picture, picture_of
from dinsegment.dicom.read.stack import SeriesName, Stack, StackSlice

__all__ = ["TAGS", "Picture", "SeriesName", "Stack", "StackSlice", "picture_of"]
