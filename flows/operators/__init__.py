"""Bytewax operators over ChangeBatches."""
