"""The models that come with the package, and reading them."""
