"""From a name in the config to batches."""
