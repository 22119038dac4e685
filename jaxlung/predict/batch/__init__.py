"""`jaxlung predict` over many files."""
