"""Nodes of the MRML scene: what is read from them, what a result adds, and how it is looked at.

`nodes` and `sequences` read images of volumes and of cines and add what comes of them, as `content` and `segments` make
it; `changes` sees to it that all of it is added or nothing. `views` shows original and enhanced image side by side,
`segment_display` and `terminology` say how segments look and what they are, `measure` says how large they are, and
`edits` which of them were corrected by hand.
"""
