"""Files, threads, processes and start-up: what knows nothing of lungs."""
