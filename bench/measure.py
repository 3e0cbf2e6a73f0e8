"""What a measure gives, how it is printed, and how the memory of a command and all its children is watched."""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.1
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Result:
    """One measure beside its peer.

    Args:
        name: what `headrace bench NAME` calls it.
        value: ours, in `unit`.
        peer: what it is compared with, and on which broker; an aim where there is no peer.
        peer_value: the peer's, in the same unit.
        ratio: how many times better ours is; above 1 is better whether the unit wants much or little.
        peak_memory_mb: greatest sum over all our processes at one moment, in units of 1,000,000 bytes; 0 where it was
            not watched.
        equal: whether the result was compared with the truth and is the same, in every run.
    """

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    peak_memory_mb: float
    equal: bool

    def to_json(self) -> str:
        """One line with exactly these fields."""
        return json.dumps(
            {key: round(item, 3) if isinstance(item, float) else item for key, item in asdict(self).items()}
        )


def table(results: Iterable[Result]) -> str:
    """The results for people, a line each."""
    head = ("measure", "ours", "peer", "unit", "ratio", "memory MB", "equal", "beside")
    rows = [
        (
            r.name,
            f"{r.value:,.6g}",
            f"{r.peer_value:,.6g}",
            r.unit,
            f"{r.ratio:.2f}",
            f"{r.peak_memory_mb:.0f}",
            "yes" if r.equal else "NO",
            r.peer,
        )
        for r in results
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a piece of work costs, in seconds.

    Args:
        processor_s: of the process, which does not count what others do on the machine meanwhile.
        wall_s: by the clock on the wall.
    """

    processor_s: float
    wall_s: float


def cost(call: Callable[[], object], rounds: int = ROUNDS) -> Taken:
    """The least of some rounds: what the code costs, without the caches that others emptied meanwhile."""
    processor, wall = [], []
    for _ in range(rounds):
        begun = time.process_time(), time.perf_counter()
        call()
        processor.append(time.process_time() - begun[0])
        wall.append(time.perf_counter() - begun[1])
    return Taken(min(processor), min(wall))


def in_turn(calls: Mapping[str, Callable[[], object]], pairs: int, rounds: int = ROUNDS) -> dict[str, Taken]:
    """What each call costs: all of them in turn, `pairs` times; the median of each."""
    found: dict[str, list[Taken]] = {name: [] for name in calls}
    for _ in range(pairs):
        for name, call in calls.items():
            found[name].append(cost(call, rounds))
    return {
        name: Taken(statistics.median(t.processor_s for t in taken), statistics.median(t.wall_s for t in taken))
        for name, taken in found.items()
    }


def say(measure: str, count: float, what: str, taken: Mapping[str, Taken]) -> None:
    """Both rates of each, on standard error."""
    for name, spent in taken.items():
        processor, wall = count / spent.processor_s, count / spent.wall_s
        text = f"{processor:14,.0f} {what}/s of processor time, {wall:14,.0f} by the wall"
        print(f"  {measure}: {name:24} {text}", file=sys.stderr, flush=True)


def one_core() -> None:
    """Keep the process on one core; before polars is imported, which makes as many threads as it may use cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def descendants(pid: int) -> list[int]:
    """That process and everything below it that still lives."""
    found, open_ = [], [pid]
    while open_:
        tasks = Path(f"/proc/{open_.pop()}/task")
        try:
            children = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        except OSError:  # it ended while we looked
            continue
        found.append(int(tasks.parent.name))
        open_ += map(int, children)
    return found


def memory_bytes(pid: int) -> int:
    """Resident set size of a process, pages shared with others counted whole; 0 if gone.

    Not the proportional set: to ask for it walks all pages under the lock that page faults need, which cost a worker of
    800 MB up to a tenth of its rate at ten samples a second. So several processes' sum is an upper bound.
    """
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not readable here, or it ended
        return 0
    return 0


class MemoryProbe:
    """Samples the memory of a process and all below it every 0.1 s until the `with` block ends.

    `samples` are (seconds since the start, bytes); `peak_mb` is the greatest sum at one moment.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: list[tuple[float, int]] = []

    def _watch(self) -> None:
        begun = time.monotonic()
        while not self._ended.wait(SAMPLE_SECONDS):
            self.samples.append((time.monotonic() - begun, sum(map(memory_bytes, descendants(self._pid)))))

    @property
    def peak_mb(self) -> float:
        """The greatest sum, in units of 1,000,000 bytes."""
        return max((amount for _, amount in self.samples), default=0) / 1e6

    def __enter__(self) -> MemoryProbe:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()


def slope_percent(samples: Sequence[tuple[float, float]]) -> float:
    """How much a line through the samples rises from the first to the last, in percent of their mean.

    Raises ValueError for fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"samples: expected at least 2, found {len(samples)}")
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread
    return 100.0 * slope * (samples[-1][0] - samples[0][0]) / mean_y


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share (0..1) of the values lies. Raises ValueError where there are none."""
    if not values:
        raise ValueError("values: expected at least one")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
