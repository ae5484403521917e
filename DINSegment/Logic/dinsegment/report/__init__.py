"""The page that is read: what was measured, as a table with normal ranges, with pictures, findings and sources.

`pages` makes all of it of a study. `content` puts together what stands on it, as data; `figures` draws key slices,
bull's-eyes and curves with Matplotlib, `bars` where a number lies in its normal range; `pdf` and `html` lay both out;
`fonts` finds letters for names in any script, and `scripts` turns those that are read from right to left. No number is
computed here.
"""
