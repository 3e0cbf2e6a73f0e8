"""Start a child that cannot outlive its starter: a launcher ties itself to its parent, drops rights, becomes the child.

Run as a file by `command()`, never imported by the child: `python -I -S tied.py PARENT SIGNAL UID GID COMMAND...`. A
launcher instead of `preexec_fn`, which runs Python between fork and exec and may deadlock where threads exist.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_KEEP = -1


def command(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    on_parent_death: signal.Signals = signal.SIGKILL,
    uid: int | None = None,
    gid: int | None = None,
) -> list[str]:
    """The command line that starts `arguments` tied to this process.

    Args:
        arguments: the program and its arguments; the program's path should be absolute when rights are dropped.
        on_parent_death: sent to the child when the thread that started it ends, however it ends (Linux only; on other
            systems a child whose starter is killed by -9 goes on).
        uid: user to become before the program starts; None keeps the present one.
        gid: group to become; supplementary groups are emptied with it.
    """
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), str(int(on_parent_death))]
    rights = [str(_KEEP if uid is None else uid), str(_KEEP if gid is None else gid)]
    return [*launcher, *rights, *(os.fspath(argument) for argument in arguments)]


def _tie(libc: ctypes.CDLL, parent: int, number: int) -> None:
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    # The starter may have died before the tie was made; then nobody would ever send the signal.
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Drop rights, tie to the parent, become the command; returns only by raising OSError."""
    parent, number, uid, gid = (int(argument) for argument in arguments[:4])
    libc = ctypes.CDLL(None, use_errno=True)
    if gid != _KEEP:
        os.setgroups([])
        os.setgid(gid)
    if uid != _KEEP:
        os.setuid(uid)
    # After the rights: a change of credentials clears the tie.
    if sys.platform == "linux":
        _tie(libc, parent, number)
    os.execvp(arguments[4], list(arguments[4:]))


if __name__ == "__main__":
    main(sys.argv[1:])
