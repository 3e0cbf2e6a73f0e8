"""The killing runs: kill -9 at random moments, restart at another process count, compare with the truth each time.

    python -m bench.crash --runs 30 --seed 1 --flow w1

Each run takes a small hard workload through a flow: w1 into two tables, one by key and one without a key (where a
doubled or a lost row cannot hide); w2 through its two joins into order_lines. It is hit one to three times: a random
worker; a worker while the target is in the middle of a transaction; the command with all its processes, started again
with another process count; PostgreSQL itself. The last line is `N runs, N equal`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import generate, rig, truth, w2
from bench.measure import descendants
from control.embedded import EmbeddedPostgres

FLOWS = {
    "w1": 30_000, "w2": 60_000, "postgres": 40_000, "sqlserver": 8_000, "oracle": 4_000, "sap_odata": 4_000,
    "sap_rfc": 2_000, "sap_idoc": 3_000,
}  # fmt: skip
"""Item events of each flow's workload; of a source that is read directly the rows of its snapshot, or IDocs."""
KEYED, KEYLESS = "erp.public.items", "erp.public.ledger"
PARTITIONS = 2
KINDS = ("worker", "commit", "all", "postgres")
SOURCE = "batch_rows_max = 1000"  # small epochs: many moments to be hit at
RUN_SECONDS_MAX = 120.0


@dataclass
class Outcome:
    """What happened in one run."""

    number: int
    processes: list[int]
    tables: tuple[str, ...]
    hits: list[str] = field(default_factory=list)
    missed: int = 0
    compared: dict[str, truth.Comparison] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every table was compared and ended equal to the truth."""
        return set(self.compared) == set(self.tables) and all(found.equal for found in self.compared.values())

    def __str__(self) -> str:
        counts = " -> ".join(map(str, self.processes))
        verdict = "equal" if self.equal else "; ".join(f"{name}: {found}" for name, found in self.compared.items())
        return f"run {self.number}: {counts} processes, {', '.join(self.hits) or 'never hit'}: {verdict}"


class Rig:
    """The started servers and the filled topics, used by all runs of a flow; this one's is w1."""

    tables: tuple[str, ...] = ("items", "ledger")
    kinds: tuple[str, ...] = KINDS
    seconds_max: float = RUN_SECONDS_MAX
    until_end = True
    """A run ends by itself."""

    def __init__(self, servers: str, postgres: EmbeddedPostgres, data: Path, scratch: Path) -> None:
        self.servers, self.postgres, self.data, self.scratch = servers, postgres, data, scratch
        self.clean_seconds = 0.0

    def fill(self) -> None:
        """Both topics from the same events; without keys each row's changes still stay in one partition."""
        from connectors.kafka.topics import Producer, create_topics

        generate.produce(self.servers, self.data, {"items": KEYED}, PARTITIONS)
        create_topics(self.servers, {KEYLESS: PARTITIONS})
        producer = Producer(self.servers)
        lines = generate.read(self.data / "items.tsv")
        producer.write(KEYLESS, ((None, value, sum(key) % PARTITIONS) for key, value in lines))
        producer.flush()

    def write(self, directory: Path) -> Path:
        """The pipeline's file in that directory."""
        tables = {"items": ("items", None, KEYED), "ledger": ("items", (), KEYLESS)}
        return rig.pipeline(directory, self.servers, tables, source=SOURCE)

    def truth_of(self, table: str) -> str:
        """Which table of the workload a target table must be equal to."""
        return "items"

    def pipeline(self) -> Path:
        """A new state directory with the pipeline's file in it, and an empty database."""
        shutil.rmtree(self.scratch / "run", ignore_errors=True)
        self.postgres.drop_database("crash")
        self.postgres.create_database("crash")
        return self.write(self.scratch / "run")

    def environment(self) -> dict[str, str]:
        """Variables that a run needs beside its target's."""
        return {}

    def start(self, file: Path, processes: int, *, until_end: bool = False) -> subprocess.Popen[bytes]:
        """`headrace run FILE`; up to the end of what is there where that is wanted, or all of the rig's runs are so."""
        arguments, environment = rig.headrace_run(
            file, self.postgres.dsn("crash"), processes, until_end=until_end or self.until_end
        )
        environment |= {"HEADRACE_STATE_DIR": str(file.parent / "state"), **self.environment()}
        return rig.start(arguments, file.parent / "run.log", environment)

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a run that nothing happens to any more. Raises subprocess.TimeoutExpired."""
        return process.wait(self.seconds_max)

    def wait(self, process: subprocess.Popen[bytes], chance: random.Random) -> str:
        """Until a random moment of a run; which it is."""
        begun = time.monotonic()
        time.sleep(chance.uniform(0.15, 0.85) * self.clean_seconds)
        return f"at {time.monotonic() - begun:.2f} s"

    def hit(self, kind: str, chance: random.Random) -> bool:
        """Do a kind of harm that only this rig has; False where it came too late."""
        raise ValueError(f"kind: expected one of {self.kinds}, found {kind}")

    def compare(self) -> dict[str, truth.Comparison]:
        """The tables with the truth."""
        import psycopg

        with psycopg.connect(self.postgres.dsn("crash")) as connection:
            return {name: truth.check(connection, name, self.data, self.truth_of(name)) for name in self.tables}


class JoinRig(Rig):
    """The flow is w2."""

    tables = (w2.RESULT,)

    def fill(self) -> None:
        """The three topics."""
        generate.produce(self.servers, self.data, w2.TOPICS, PARTITIONS)

    def write(self, directory: Path) -> Path:
        """The pipeline's file in that directory."""
        return w2.pipeline(directory, self.servers, w2.TOPICS, source=SOURCE)

    def truth_of(self, table: str) -> str:
        """The joined table is the truth's own."""
        return table


def kill_one(process: subprocess.Popen[Any], chance: random.Random) -> bool:
    """kill -9 for a random worker; False where none lives."""
    return kill_any(rig.workers(process), chance)


def kill_any(pids: Collection[int], chance: random.Random) -> bool:
    """kill -9 for a random one of these processes; False where there is none."""
    if not pids:
        return False
    try:
        os.kill(chance.choice(sorted(pids)), signal.SIGKILL)
    except ProcessLookupError:  # it ended by itself in this moment
        return False
    return True


def in_transaction(postgres: EmbeddedPostgres, process: subprocess.Popen[Any], seconds_max: float) -> bool:
    """Wait until a session is in the middle of a writing transaction or commits; False if that never comes."""
    import psycopg

    busy = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = 'crash' AND pid <> pg_backend_pid() "
        "AND backend_xid IS NOT NULL AND (state = 'active' OR query ILIKE 'commit%') LIMIT 1"
    )
    deadline = time.monotonic() + seconds_max
    with psycopg.connect(postgres.dsn("crash"), autocommit=True) as connection:
        while time.monotonic() < deadline and process.poll() is None:
            if connection.execute(busy).fetchone():
                return True
    return False


def hit(parts: Rig, kind: str, process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Do one kind of harm now; False where it came too late."""
    if process.poll() is not None:
        return False
    if kind not in KINDS:
        return parts.hit(kind, chance)
    if kind == "postgres":
        parts.postgres.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        parts.postgres.start()
        return True
    if kind == "all":
        for pid in descendants(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # killed with its parent
                continue
        process.wait()
        return True
    if kind == "commit" and not in_transaction(parts.postgres, process, 2.0):
        return False
    return kill_one(process, chance)


def one(parts: Rig, number: int, seed: int) -> Outcome:
    """One killing run, the same harm for the same seed and number (the moments are real time)."""
    chance = random.Random(f"{seed}/{number}")
    outcome = Outcome(number, [chance.randint(1, 3)], parts.tables)
    file = parts.pipeline()
    process = parts.start(file, outcome.processes[-1])
    try:
        for _ in range(chance.randint(1, 3)):
            kind = chance.choice(parts.kinds)
            moment = parts.wait(process, chance)
            if hit(parts, kind, process, chance):
                outcome.hits.append(f"{kind} {moment}")
            else:
                outcome.missed += 1
            if process.poll() is not None:
                outcome.processes.append(chance.choice([n for n in (1, 2, 3) if n != outcome.processes[-1]]))
                process = parts.start(file, outcome.processes[-1])
        if parts.ended(process) != 0:
            raise SystemExit(f"bench: {outcome}\nended with code {process.returncode}:\n{log_end(file)}")
        outcome.compared = parts.compare()
    except subprocess.TimeoutExpired:
        raise SystemExit(f"bench: {outcome}\ndid not end within {parts.seconds_max:.0f} s:\n{log_end(file)}") from None
    finally:
        rig.kill_session(process)
    return outcome


def log_end(file: Path) -> str:
    """The last lines of what its runs said."""
    return (file.parent / "run.log").read_text(errors="replace")[-4000:]


def clean(parts: Rig) -> float:
    """Seconds of a run without any harm; SystemExit where even that fails."""
    begun = time.monotonic()
    file = parts.pipeline()
    process = parts.start(file, 1)
    try:
        if parts.ended(process) != 0:
            raise SystemExit(f"bench: a run without any harm fails:\n{log_end(file)}")
    except subprocess.TimeoutExpired:
        raise SystemExit(
            f"bench: a run without any harm takes over {parts.seconds_max:.0f} s:\n{log_end(file)}"
        ) from None
    finally:
        rig.kill_session(process)
    return time.monotonic() - begun


def crash(runs: int, seed: int, first: int = 1, flow: str = "w1", items: int = 0) -> int:
    """All the runs; the number of those that ended equal. `items` 0: as many as FLOWS says."""
    if flow not in ("w1", "w2"):
        from bench.crash_direct import crash_directly

        return crash_directly(runs, seed, first, flow, items or FLOWS[flow])
    data = generate.cached(items or FLOWS[flow], hard=True)
    equal = 0
    with (
        rig.broker() as broker,
        rig.postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-crash-") as scratch,
    ):
        parts = (Rig if flow == "w1" else JoinRig)(broker.servers, postgres, data, Path(scratch))
        parts.fill()
        parts.clean_seconds = clean(parts)
        print(f"{flow}, {rig.broker_name(broker)}; a run without harm takes {parts.clean_seconds:.1f} s", flush=True)
        for number in range(first, first + runs):
            outcome = one(parts, number, seed)
            equal += outcome.equal
            print(outcome, flush=True)
    print(f"{runs} runs, {equal} equal", flush=True)
    return equal


def command(arguments: Sequence[str]) -> int:
    """The command line of this module; the exit code."""
    parser = argparse.ArgumentParser(prog="bench.crash", description="Kill -9 at random moments; compare each time.")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="number of the first run, to repeat one")
    parser.add_argument(
        "--flow",
        choices=FLOWS,
        default="w1",
        help="w2: two joins; postgres: from a slot; others: from the double of a system that is read directly",
    )
    parser.add_argument("--items", type=int, default=0, help=f"item events, or rows of the snapshot; default {FLOWS}")
    options = parser.parse_args(arguments)
    equal = crash(options.runs, options.seed, options.first, options.flow, options.items)
    return 0 if equal == options.runs else 1


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
