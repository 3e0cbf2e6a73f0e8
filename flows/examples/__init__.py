"""Small flows of one's own, each run by a test."""
