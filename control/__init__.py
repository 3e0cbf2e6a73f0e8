"""Starts, stops, rescales, shows; moves no data."""
