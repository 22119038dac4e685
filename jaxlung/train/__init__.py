"""Training: one run, and several runs as an ensemble."""
