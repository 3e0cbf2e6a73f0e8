"""Compiles the C modules into the package where a C compiler is; without one the reference implementation serves."""

from __future__ import annotations

import os
import shutil

from setuptools import setup

wanted = os.environ.get("HEADRACE_BUILD_C", "1") != "0"
compiler = shutil.which(os.environ.get("CC", "cc").split()[0])
builders = [
    "libcore/build_ffi.py:builder",
    "connectors/kafka/build_reader.py:builder",
    "connectors/postgres/build_reader.py:builder",
]
setup(cffi_modules=builders if wanted and compiler else [])
