"""A target that counts rows and keeps nothing: to measure what the rest costs."""
