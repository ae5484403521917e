"""What looks wrong with an image or a result, in words a clinician understands."""
