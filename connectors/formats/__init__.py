"""Bytes to ChangeBatch and back; no I/O."""
