"""A fake of the package pyrfc and an SAP system behind it, kept in a SQLite file that several processes reach."""

from __future__ import annotations

from pathlib import Path

SHIM = Path(__file__).parent / "shim"
"""What stands first on PYTHONPATH, so that `import pyrfc` finds the fake."""
