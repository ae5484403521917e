"""The second image that the network sees, and that the user is shown beside the original.

Grey values inside a window become [-1, 1] (`grey`); `fuzzy` enhances the slices, or one of the methods that it is
compared with (`comparators`). `methods` has all of them by the names that recipes and weights.json use. `displayed`
makes the image that the user sees: whole slices at full resolution, back in the grey values of the original.
"""
