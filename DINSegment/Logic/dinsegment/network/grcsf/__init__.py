"""GRCSF: global and regional compensation for lesions (Pattern Recognition, arXiv 2502.08675).

`gcu` gives back to the skips of a U-shaped `network` what its downsampling lost. `autoencoder` reconstructs an image
from a few of its patches (`masks` says which); trained without labels and then frozen, it shows in a residual map
(`residual`) what it did not expect, which `rcu` brings to the decoder. `attention` is what both of these look with.
docs/method.md says what the published description leaves open.
"""
