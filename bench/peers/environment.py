"""A peer's own virtual environment, made at the first use: its pins must not meet ours.

It lies in the bench's cache (HEADRACE_CACHE, default ~/.cache/headrace), named by what is installed in it, and is kept.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from bench.generate import cache_root

_READY = ".ready"  # a file that is there when all is installed


def python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment that holds exactly these packages and what they need.

    Args:
        name: the peer's, part of the directory's name.
        requirements: pinned, as pip takes them.
    Raises: SystemExit with pip's words where they cannot be installed.
    """
    directory = _directory(name, requirements)
    if (directory / _READY).exists():
        return directory / "bin" / "python"
    interpreter = directory / "bin" / "python"
    print(f"bench: installing {' '.join(requirements)}; once", file=sys.stderr, flush=True)
    # scripts of an environment hold its path: it is made in place, and half a one is made anew
    shutil.rmtree(directory, ignore_errors=True)
    venv.create(directory, with_pip=True)
    with tempfile.TemporaryFile() as log:
        arguments = [str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        if subprocess.run(arguments, stdout=log, stderr=log, check=False).returncode != 0:
            log.seek(0)
            raise SystemExit(f"bench: {name} could not be installed:\n{log.read().decode(errors='replace')[-4000:]}")
    (directory / _READY).touch()
    return interpreter


def _directory(name: str, requirements: Sequence[str]) -> Path:
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    return cache_root() / f"peer-{name}-{digest}"
