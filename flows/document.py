"""The document step of a pipeline file, ready to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from bytewax.dataflow import Stream

from flows.document_spec import STEP, DocumentSpec
from flows.operators.document import document
from flows.operators.keyed import Context


def step(
    spec: DocumentSpec, flow: str, topics: Collection[str], context: Context | None
) -> Callable[[Stream[Any]], Stream[Any]]:
    """What stands between source and shape."""
    assert context is not None
    return partial(_draw, spec, flow, topics, context)


def _draw(spec: DocumentSpec, flow: str, topics: Collection[str], context: Context, items: Stream[Any]) -> Stream[Any]:
    return document(STEP, items, spec.rules(flow, topics), context)
