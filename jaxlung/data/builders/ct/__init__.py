"""TFDS data sets of chest CT: an example is an axial slice."""
