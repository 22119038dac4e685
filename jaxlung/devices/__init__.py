"""Where arrays live: one device or many, one process or several."""
