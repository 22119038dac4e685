"""The review page of `jaxlung view`: masks are seen, corrected, and handed on to training."""
