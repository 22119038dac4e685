"""Pure functions of a mask: clean up, left and right, shape."""
