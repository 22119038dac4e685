"""Several trainings at once."""
