"""Models for other runtimes: files that run where jaxlung is not installed."""
