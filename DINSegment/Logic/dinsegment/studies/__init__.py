"""Many inputs into one output folder."""
