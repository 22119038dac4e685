"""TFDS builders. Import a builder's module to register it, then `tfds.load(name)`."""
