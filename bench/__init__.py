"""Measures: the workload, its truth, the runs side by side with peers, and the killing runs."""
