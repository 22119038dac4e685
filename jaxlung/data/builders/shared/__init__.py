"""What several builders need: outlines, readings, one form of example."""
