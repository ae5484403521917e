"""Python packages that segmenting needs: which are missing, the question, and how Slicer installs them.

`pip_guard` keeps pip from touching the packages that Slicer itself brings.
"""
