"""Many inputs into one output folder.

`many` plans, and segments one study after the other while the next is read and the last is written; `cluster` spreads
them over machines. A `study` is read, computed and written on its own. `results` writes its files, all or none, in the
place of those that were written before and by nobody else, with a picture (`overview`); of one that somebody has
`corrected` they are written again. `contents` lists what can be segmented in a DICOM study. `folders` are chosen for
the results, and the `ledger` knows what is done by an `index`, so that a run that was stopped goes on; `table` lists
what came out, and a `page` with thumbnails links to the reports.
"""
