"""What needs `slicer`: MRML nodes to and from the library, and the logic for Slicer's Python console."""
