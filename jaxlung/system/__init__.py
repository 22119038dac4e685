"""Files, threads, processes and start-up: everything that does not depend on images."""
