"""The sanity gate: what is no upright frontal chest X-ray, and masks that are unlikely."""
