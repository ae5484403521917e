"""The page that is read: what was measured, as a table with normal ranges, with pictures, findings and sources.

`content` puts together what stands on it, as data; `figures` draws key slices, bull's-eyes and curves with Matplotlib;
`pdf` and `html` lay both out; `fonts` finds letters for names in any script, and `scripts` turns those that are read
from right to left. No number is computed here.
"""
