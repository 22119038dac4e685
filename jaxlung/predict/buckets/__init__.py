"""Films from buckets and masks to buckets, by fsspec."""
