"""The document step of a pipeline file, ready to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from bytewax.dataflow import Stream

from flows.document_spec import STEP, DocumentSpec
from flows.operators.document import document
from flows.operators.keyed import Context
from libcore.schema import Table


def step(
    spec: DocumentSpec, flow: str, topics: Collection[str], context: Context | None
) -> Callable[[Stream[Any]], Stream[Any]]:
    """What stands between source and shape."""
    assert context is not None
    return partial(_draw, spec, flow, topics, context)


def one_part(single_part: Callable[[Table], bool]) -> Callable[[Table], bool]:
    """Asks on, so that the target prepares the table; and all rows go through one sink part, in one transaction."""
    return lambda table: single_part(table) or True


def _draw(spec: DocumentSpec, flow: str, topics: Collection[str], context: Context, items: Stream[Any]) -> Stream[Any]:
    return document(STEP, items, spec.rules(flow, topics), context)
