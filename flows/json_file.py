"""connectors/base/json_file.py for the control layer, which knows no connector."""

from __future__ import annotations

from connectors.base.json_file import read, write

__all__ = ["read", "write"]
