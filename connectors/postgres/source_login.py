"""What a refused login means: at a start the file is wrong; later somebody changed something there, which may pass.

A password is rotated, a role is locked, a database is restored under another name for an hour: a flow that ended then
would stay ended. So once a source has let it in, it tries for as long as it runs, and says so as an error each time.
"""

from __future__ import annotations

import structlog

from connectors.base.metrics import LOGIN_REFUSED
from connectors.postgres.source_session import LoginRefused
from libcore.errors import HeadraceError, TransientError

_log = structlog.get_logger()


class Logins:
    """What became of the logins of one partition, over all its readers.

    Args:
        partition: its name in metrics and logs.
    """

    def __init__(self, partition: str) -> None:
        self._partition, self._known = partition, False
        self._refused = LOGIN_REFUSED.labels(partition)
        self._refused.set(0)

    def taken(self) -> None:
        """The source has let it in, with each kind of session that it needs."""
        self._known = True
        self._refused.set(0)

    def meaning(self, error: LoginRefused) -> HeadraceError:
        """The error itself at a start, which it refuses; later a TransientError."""
        if not self._known:
            return error
        self._refused.set(1)
        _log.error("source refuses the login that it took before", partition=self._partition, error=str(error))
        return TransientError(str(error))
