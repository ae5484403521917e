"""What the Segment Editor's effect DIN does, apart from the effect itself, which the application loads by its file.

`target` says what is corrected: a segment that a network knows, in an image; `masks` reads its slices and makes one
change of what is accepted; `drawing` brings the mouse's way onto the pixels of a slice, and outlines back; `talk` asks
the worker, one thing after the other; `pipeline` shows strokes and preview in a slice view.
"""
