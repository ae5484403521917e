"""The page that is read: what was measured, as a table with normal ranges, with pictures, findings and sources.

`content` puts together what stands on it, as data; `figures` draws key slices, bull's-eyes and curves with Matplotlib;
`pdf` and `html` lay both out, and `fonts` finds letters for names in any script. No number is computed here.
"""
