"""`python -m control.cli` is `headrace`."""

from __future__ import annotations

from control.cli.main import app

app(prog_name="headrace")
