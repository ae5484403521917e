"""Learning from what a user corrected.

`single_slices` keeps what a network makes of slices, `strokes` makes new masks of what the user draws in one of them,
and `serving` does both for the worker process.
"""
