"""cDAL: conditional diffusion of masks with spatial attention and latent embedding (MICCAI 2024, arXiv 2502.06997).

A mask is noised in a few large steps (`schedule`). A `generator` of `blocks` takes noise back to a mask, given the
image and a latent (`latent`) that says which of the possible masks. In training a `discriminator` tells real steps from
made ones, and where it looks (`attention`) weighs the mask that is noised. `network` puts generator and schedule
together and draws samples; it is what a model consists of.
"""
