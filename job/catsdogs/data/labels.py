"""The names of the classes and of the splits."""

CLASSES = ("cat", "dog")
"""In alphabetical order; a label is an index into it."""
SPLITS = ("train", "validation", "test")
