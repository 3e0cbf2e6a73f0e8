"""The one place that reads a secret: references in, values that do not print out.

env:NAME     the environment variable NAME
file:/path   the file's text without its last line break (a mounted Kubernetes or Docker secret)
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from libcore.errors import ConfigurationError

SUPPORTED = "env:NAME and file:/path"
FILE_BYTES_MAX = 1 << 20

_SCHEME = re.compile(r"(env|file|vault):(.+)", re.S)


class Secret:
    """A secret value. Printing, formatting or pickling it never shows it; `reveal()` is the only way in."""

    __slots__ = ("_value", "reference")

    def __init__(self, value: str, reference: str) -> None:
        self._value, self.reference = value, reference

    def reveal(self) -> str:
        """The value itself, for the driver's login call and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.reference})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} is not to be pickled: pass its reference on")


def is_reference(text: object) -> bool:
    """Whether a setting's text is a reference to a secret (of any scheme, supported or not)."""
    return isinstance(text, str) and _SCHEME.fullmatch(text) is not None


def _referenced(text: str) -> str:
    # the text itself stays out of the message: it may be the secret, written where its reference belongs
    if not is_reference(text):
        raise ValueError(f"expected a reference to a secret ({SUPPORTED}), found plain text")
    return text


Reference = Annotated[str, AfterValidator(_referenced)]
"""A setting that holds a reference to a secret; plain text is refused without being shown."""


def resolve(reference: str) -> Secret:
    """Read a secret. Raises ConfigurationError that names the reference, what is missing and what is supported."""
    match = _SCHEME.fullmatch(reference)
    if match is None:
        # the text itself stays out of the message: it may be the secret, written where its reference belongs
        raise ConfigurationError(f"expected a reference to a secret ({SUPPORTED}), found plain text")
    scheme, name = match[1], match[2]
    if scheme == "env":
        if name not in os.environ:
            raise ConfigurationError(f"{reference}: the environment variable {name} is not set")
        return Secret(os.environ[name], reference)
    if scheme == "file":
        return Secret(_file(name, reference), reference)
    raise ConfigurationError(
        f"{reference}: vault references are not supported; use {SUPPORTED} (a vault's agent can write the file)"
    )


def plain(value: str) -> str:
    """The text of a setting that may be a secret reference: resolved if it is one, else as it stands."""
    return resolve(value).reveal() if is_reference(value) else value


def _file(name: str, reference: str) -> str:
    path = Path(name)
    if not path.is_absolute():
        raise ConfigurationError(f"{reference}: expected an absolute path")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigurationError(f"{reference}: expected a secret of at most {FILE_BYTES_MAX} bytes")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{reference}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{reference}: expected UTF-8 text") from error
    return text.removesuffix("\n").removesuffix("\r")
