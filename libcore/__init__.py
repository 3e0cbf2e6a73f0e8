"""The words and the arithmetic of a change. No I/O, no clock, no Bytewax: same input, same output.

HEADRACE_CORE=auto|c|python, read once here, picks what serves the faces: the C library (libcore._c), or the plain
reference in libcore/reference with the same answers, slower.
"""

from __future__ import annotations

import os
import warnings

__version__ = "0.1.0"


def _choose() -> str:
    wanted = os.environ.get("HEADRACE_CORE", "auto")
    if wanted not in ("auto", "c", "python"):
        raise ImportError(f"HEADRACE_CORE: expected auto, c or python, found {wanted!r}")
    if wanted == "python":
        return "python"
    try:
        import libcore._c  # noqa: F401
    except ImportError as error:
        if wanted == "c":
            raise ImportError(
                f"HEADRACE_CORE=c, but the C library does not load ({error}); `make build` compiles it"
            ) from error
        warnings.warn(
            "libcore runs on its Python reference: the C library is not built (`make build` needs a C compiler). "
            "Answers are the same; decoding is about 400 times slower.",
            RuntimeWarning,
            stacklevel=2,
        )
        return "python"
    return "c"


IMPLEMENTATION = _choose()
