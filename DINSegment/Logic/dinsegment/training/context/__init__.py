"""How networks that see volumes learn: that of the trunk on a coarse grid, and that of the box of its organs.

`recipe` says how, `data` keeps trunks and draws fields of view of them, `organ_data` boxes of organs, `augmentation`
varies these, `loop` fits the network. A network of organs begins with `published` weights. From a shell:
`python -m dinsegment.training.context train`.
"""
