"""The command line: `headrace` and `python -m control.cli`."""
