"""The version of this library, which files made with it bear."""

__version__ = "0.1.0"
