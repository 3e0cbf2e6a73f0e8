"""Build libcore._c: the C sources behind one cffi module in API mode.

The declarations come from the headers themselves: what stands between `/* cdef */` and `/* end cdef */`. Run
`python -m libcore.build_ffi` to compile in place; without a C compiler the reference implementation serves.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
_INCLUDE = re.compile(r'#include "libcore/(\w+\.h)"')
_SECTION = re.compile(r"/\* cdef \*/(.*?)/\* end cdef \*/", re.S)


def headers() -> list[Path]:
    """All public headers, each behind those that it includes."""
    found = {path.name: path for path in sorted((ROOT / "include" / "libcore").glob("*.h"))}
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        for included in _INCLUDE.findall(found[name].read_text()):
            if included not in ordered:
                add(included)
        ordered[name] = found[name]

    for name in found:
        add(name)
    return list(ordered.values())


def sources() -> list[Path]:
    """All C sources of the library."""
    return sorted((ROOT / "src").glob("*.c"))


def declarations() -> str:
    """What cffi parses: the marked sections of the headers."""
    return "\n".join(section for header in headers() for section in _SECTION.findall(header.read_text()))


def builder() -> Any:
    """The configured cffi.FFI. HEADRACE_CFLAGS adds flags (sanitizers, coverage); it is read at build time only."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(declarations())
    extra = os.environ.get("HEADRACE_CFLAGS", "").split()
    ffi.set_source(
        "libcore._c",
        "\n".join(f'#include "libcore/{header.name}"' for header in headers()),
        # relative: setuptools refuses absolute paths, and a build tree must not leak into the module
        sources=[str(path.relative_to(ROOT.parent)) for path in sources()],
        include_dirs=[str((ROOT / "include").relative_to(ROOT.parent)), str((ROOT / "src").relative_to(ROOT.parent))],
        extra_compile_args=[*FLAGS, "-Wno-unused-parameter", *extra],
        extra_link_args=[flag for flag in extra if flag.startswith(("-fsanitize", "--coverage"))],
    )
    return ffi


if __name__ == "__main__":
    os.chdir(ROOT.parent)
    builder().compile(tmpdir=".", verbose="-v" in sys.argv)
