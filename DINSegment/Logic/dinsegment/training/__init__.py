"""From labelled cases to weights, and from weights to scores.

`cases` finds images with expert labels, whose names `label_names` translates, and `dataset_check` looks for what is
wrong with them. `dataset` brings them onto the network's grid, or `pack` into one file, and `augmentation` varies them.
`failed` tells which cannot be used. A `recipe` says what is trained and `run_options` how it is run; `trainer` does it,
in `steps` of the network's kind, with `losses`, from random, `pretrained` or other weights, and `run_log` and `curves`
tell how far it is. `evaluation` compares a model with the experts (`metrics`, `statistics`), `report` and `figures`
show it, and `publish` puts a model into weights.json. `adapt` goes on training a model on a few cases of one's own, and
`half_made` knows what a training that was killed has left.
"""
