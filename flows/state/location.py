"""What may stand in a pipeline file as the place of state segments: a path or a URI, and no keys in it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

WITHOUT_KEYS = "without keys in it (the AWS SDK finds them in its environment variables, files and roles)"


def segments_location(chosen: str | None, state_dir: Path, file: str | Path) -> str:
    """Where a pipeline's segments lie.

    Args:
        chosen: the file's `segments`; a relative path counts from the file's directory, as `state_dir` does.
        state_dir: the state directory, which has them by default. file: the pipeline file.
    """
    if chosen is None:
        return str(state_dir / "segments")
    return chosen if "://" in chosen else str(Path(file).resolve().parent / chosen)


def has_keys(location: str) -> bool:
    """Whether a location holds a name or password."""
    parts = urlsplit(location)
    # A secret's "/" ends the host early, so of a bucket a ":" alone tells.
    return "://" in location and ("@" in parts.netloc or (parts.scheme == "s3" and ":" in parts.netloc))


def at_once(location: str) -> str:
    """An S3 URI with which a file is one request, not three."""
    if not location.startswith("s3://") or "allow_delayed_open" in location:
        return location
    return f"{location}{'&' if '?' in location else '?'}allow_delayed_open=true"
