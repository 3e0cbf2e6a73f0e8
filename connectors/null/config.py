"""What the null target needs to be told."""

from __future__ import annotations

from pathlib import Path

from connectors.base.config import Config


class NullConfig(Config):
    """A target that counts rows and keeps none: for measuring a flow without its target."""

    progress_dir: Path | None = None
    """Directory for a file a part with its progress; None keeps it in memory, and a restart trusts the manifest."""
