"""How a context network learns: from whole volumes on a coarse grid, not from slices.

`recipe` says how, `data` keeps the volumes and draws fields of view of them, `augmentation` varies these, `loop` fits
the network. From a shell: `python -m dinsegment.training.context train`.
"""
