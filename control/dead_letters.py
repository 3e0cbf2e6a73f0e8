"""The dead letters of a pipeline, read from its Parquet files (state_dir/dead-letters) as one frame.

They are named by where they came from: topic:partition:offset. A crash between writing a file and the end of its epoch
writes the same letters again in another file; they are shown once.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import polars as pl

from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError

FORMATS = ("ndjson", "csv", "parquet")
_BINARY = ("raw_key", "raw_value")
_COLUMNS = [column.name for column in DEAD_LETTERS.columns]


def read(directory: Path, *, table: str | None = None, reason: str | None = None) -> pl.DataFrame:
    """All letters, oldest first, each once.

    Args:
        directory: state_dir/dead-letters; empty or missing means none.
        table: only those of this source table.
        reason: only "data" (the row itself is bad), "parked" (it waits behind one that is) or "conflict" (another row
            stood in its way).
    Returns: the columns of libcore.dead_letter, and `letter`: topic:partition:offset.
    """
    files = sorted(directory.glob("**/*.parquet"))
    if not files:
        return pl.DataFrame(schema={**dict.fromkeys(_COLUMNS, pl.String), "letter": pl.String})
    frame = pl.concat([pl.read_parquet(file).select(pl.col(_COLUMNS)) for file in files], how="vertical_relaxed")
    identity = [name for name in _COLUMNS if name != "failed_at"]
    frame = frame.sort("failed_at", maintain_order=True).unique(identity, keep="first", maintain_order=True)
    place = pl.concat_str(
        pl.col("topic"), pl.col("partition"), pl.col("message_offset"), separator=":", ignore_nulls=True
    )
    frame = frame.with_columns(letter=place)
    if table is not None:
        frame = frame.filter(pl.col("table_name") == table)
    return frame if reason is None else frame.filter(pl.col("reason") == reason)


def find(frame: pl.DataFrame, letter: str) -> list[dict[str, Any]]:
    """The letters with this name; one message may have left several. Raises ConfigurationError where there is none."""
    found = frame.filter(pl.col("letter") == letter).to_dicts()
    if not found:
        raise ConfigurationError(f"dead letter {letter}: expected one of `headrace dead-letters list`, found none")
    return found


def text_of(value: bytes | None) -> str:
    """Raw bytes as a person reads them: UTF-8 where they are, else base64 and said so."""
    if value is None:
        return "NULL"
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(value).decode()}"


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its binary columns as text, for formats without bytes."""
    as_text = [pl.col(name).map_elements(text_of, return_dtype=pl.String, skip_nulls=True) for name in _BINARY]
    return frame.with_columns(as_text)


def export(frame: pl.DataFrame, target: Path) -> None:
    """Write the letters to a file; its ending says how: .ndjson, .csv or .parquet, which alone keeps raw bytes."""
    kind = target.suffix.lstrip(".")
    if kind == "parquet":
        frame.write_parquet(target)
    elif kind == "csv":
        plain(frame).write_csv(target)
    elif kind == "ndjson":
        plain(frame).write_ndjson(target)
    else:
        raise ConfigurationError(f"{target}: expected a name that ends with one of {', '.join(FORMATS)}")
