"""What the commands share: consoles, exit codes, common arguments, errors as one line instead of a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from libcore.errors import ConfigurationError, HeadraceError

CONFIGURATION_EXIT_CODE = 78

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
"""For answers: standard output."""
err = Console(stderr=True, highlight=False, soft_wrap=True)
"""For progress and errors: standard error."""

File = Annotated[Path, typer.Argument(help="The pipeline file, such as orders.toml.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@contextmanager
def quiet_logs(level: int = logging.WARNING) -> Iterator[None]:
    """Send what the product logs to standard error, from a level on: standard output is for the answer.

    Only inside the `with` block: who calls a command inside a process of their own keeps their own logging, and what
    the process does later does not write to a stream that the command's caller has closed.
    """
    import structlog

    former = structlog.get_config()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    try:
        yield
    finally:
        structlog.configure(**former)


@contextmanager
def reported() -> Iterator[None]:
    """Print an error of ours as one line; exit 78 for a configuration error, 1 for the rest."""
    try:
        yield
    except ConfigurationError as error:
        err.print(f"headrace: {error}", style="red", markup=False)
        raise typer.Exit(CONFIGURATION_EXIT_CODE) from error
    except HeadraceError as error:
        err.print(f"headrace: {type(error).__name__}: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
