"""The pydantic base of every system's configuration: unknown fields refused, values frozen, secrets hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from libcore.errors import ConfigurationError


class Config(BaseModel):
    """Settings of one system. Immutable; a field that does not exist is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """Settings from plain values. Raises ConfigurationError naming `where`, each bad field, and why.

        The values found are not part of the message: one of them may be a secret in the wrong place.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            faults = [
                f"{'.'.join(str(step) for step in fault['loc']) or 'value'}: {fault['msg']}"
                for fault in error.errors(include_input=False)
            ]
            raise ConfigurationError(
                f"{where}: {'; '.join(faults)}; known fields are {', '.join(cls.model_fields)}"
            ) from None
