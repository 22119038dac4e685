"""TFDS builders of the public sets, one module a set."""
