"""Build connectors.postgres._reader: the C reader of COPY data behind a cffi module in API mode.

Run `python -m connectors.postgres.build_reader` to compile in place. It needs a C compiler and nothing of libpq, which
is found at run time; without it the plain reader serves.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FLAGS = ["-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-Wno-unused-parameter"]
_SECTION = re.compile(r"/\* cdef \*/(.*?)/\* end cdef \*/", re.S)


def declarations() -> str:
    """What cffi parses: Arrow's array struct, left open, and the marked section of copy_reader.h."""
    (section,) = _SECTION.findall((HERE / "copy_reader.h").read_text("utf-8"))
    return "struct ArrowArray { ...; };\n" + section


def builder() -> Any:
    """The configured cffi.FFI. HEADRACE_CFLAGS adds flags (sanitizers); it is read at build time only."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(declarations())
    extra = os.environ.get("HEADRACE_CFLAGS", "").split()
    folder = HERE.relative_to(ROOT)
    ffi.set_source(
        "connectors.postgres._reader",
        '#include "copy_reader.h"',
        # relative: setuptools refuses absolute paths, and a build tree must not leak into the module
        sources=[str(folder / "copy_reader.c")],
        include_dirs=[str(folder), str(Path("libcore") / "include")],
        extra_compile_args=[*FLAGS, *extra],
        extra_link_args=["-ldl", *(flag for flag in extra if flag.startswith("-fsanitize"))],
    )
    return ffi


if __name__ == "__main__":
    os.chdir(ROOT)
    builder().compile(tmpdir=".", verbose="-v" in sys.argv)
