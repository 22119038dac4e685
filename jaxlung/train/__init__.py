"""Training: the loop, and ensembles."""
