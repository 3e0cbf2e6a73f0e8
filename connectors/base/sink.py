"""The sink of every durable flow: a spool on disk in front of the target, exactly once in effect (DESIGN.md 4.6).

    epoch e      write_batch* gathers      snapshot() compacts, writes segment n (fsync), returns the manifest naming it
    epoch e+1    first write_batch: epoch e is durable everywhere -> segment n goes to the applier, and the files that
                 e's manifest no longer names are deleted

Applied any earlier, a replay with other batch borders would lose rows. Every part gets at least one item an epoch (a
Tick), else its last segment would stay. Nothing is committed in close(): it runs before the last epoch is durable.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.base import stop
from connectors.base.applier import Applier
from connectors.base.batches import join
from connectors.base.epoch_writes import EpochWrites
from connectors.base.items import Fence, Item, Marker, Tick
from connectors.base.metrics import SPOOL_WAIT, SPOOL_WAITING
from connectors.base.spool import Manifest, SegmentFile, Spool
from connectors.base.target import Target, with_markers
from libcore.change import ChangeBatch, Op, op_is
from libcore.compact import compact
from libcore.errors import ConfigurationError, FatalError, HeadraceError
from libcore.schema import Table

_LOG = structlog.get_logger()
_START_WAIT_S = 3.0  # how long a part waits for the target's word before it goes on without it
_WAIT_STEP_S = 0.25  # a stop request is noticed within this time while the spool is full
# Behind that many waiting segments a small epoch brings nothing sooner, and all manifests to come name each of them:
# of a target that is away for half an hour, epochs of some milliseconds made 100,000 segments.
_MANY_SEGMENTS, _LONG_EPOCH_S = 256, 0.5


class Chunk:
    """What one segment will hold: runs of batches by table, in order, then markers."""

    def __init__(self) -> None:
        self._runs: list[tuple[Table, list[pa.RecordBatch]]] = []
        self._newest: dict[str, int] = {}
        self.markers: list[Marker] = []
        self.bytes = 0

    def takes(self, batch: ChangeBatch) -> bool:
        """False for rows of a table that has a marker at the chunk's end: they belong behind it."""
        return all(marker.table != batch.table.name for marker in self.markers)

    def has(self, table: str) -> bool:
        """Whether rows of the table are in it."""
        return table in self._newest

    def add(self, batch: ChangeBatch) -> None:
        """Append rows. A table whose shape changes within the epoch gets one run a shape, in order."""
        name = batch.table.name
        index = self._newest.get(name, -1)
        if index < 0 or self._runs[index][0] != batch.table:
            index = self._newest[name] = len(self._runs)
            self._runs.append((batch.table, []))
        self._runs[index][1].append(batch.record)
        self.bytes += batch.record.nbytes

    def compacted(self) -> list[tuple[Table, pa.RecordBatch]]:
        """The runs, each as one batch with the last change per key."""
        done = [(table, _compact(table, join(table, records))) for table, records in self._runs]
        return [(table, record) for table, record in done if record.num_rows]


class SinkPart(StatefulSinkPartition[Item, tuple[Any, ...]]):
    """One part: gathers an epoch, spools it, hands durable segments to its applier.

    Args:
        spool: the part's files. manifest: what the last durable epoch said. applier: started.
        writes: of this worker. siblings: all parts of this worker by number; this one adds itself.
        passed: told of each fence whose epoch is durable.
    """

    def __init__(
        self,
        spool: Spool,
        manifest: Manifest,
        applier: Applier,
        writes: EpochWrites,
        siblings: dict[int, SinkPart],
        passed: Callable[[Fence], None],
    ) -> None:
        self._spool, self._applier, self._writes, self._siblings = spool, applier, writes, siblings
        writes.will_wait()
        siblings[spool.part] = self
        self._store_id, self._seq, self._files = manifest.store_id, manifest.seq, list(manifest.files)
        self._chunks: list[Chunk] = []
        self._writing: Future[list[SegmentFile]] | None = None  # what `_begin` made of the chunks
        self._ready: list[SegmentFile] = []  # written in the epoch before, handed over once it is durable
        self._passed, self._fences = passed, list[Fence]()  # in the segments that are written
        self._closed_at = 0.0  # when the newest epoch was closed (monotonic)
        self._dropped: list[str] = []  # left out of the newest manifest, deleted once that is durable
        self._marker_ready = False  # a segment handed over in this epoch holds a marker
        self._log = _LOG.bind(flow=spool.flow, part=spool.part)

    def write_batch(self, values: list[Item]) -> None:
        """Take the items of one activation; waits while the spool is at its bound."""
        self._applier.raise_if_failed()
        self._former_epoch_is_durable()
        for item in values:
            if isinstance(item, ChangeBatch):
                if not self._chunks or not self._chunks[-1].takes(item):
                    self._chunks.append(Chunk())
                self._chunks[-1].add(item)
            elif isinstance(item, Marker):
                self._mark(item)
            else:
                assert isinstance(item, Tick), item
        self._wait_for_room()
        self._wait_for_more()

    def snapshot(self) -> tuple[Any, ...]:
        """Make the epoch's changes durable; the manifest that names every segment not known to be applied."""
        self._applier.raise_if_failed()
        for part in self._siblings.values():
            part._begin()
        self._finish()
        self._writes.wait()
        self._marker_ready = False
        applied = self._applier.applied
        self._dropped.extend(file.name for file in self._files if file.seq <= applied)
        self._files = [file for file in self._files if file.seq > applied]
        self._closed_at = monotonic()
        return Manifest(self._store_id, self._seq, tuple(self._files)).to_state()

    def close(self) -> None:
        """Wait for the applier; what was gathered or spooled in an epoch that is not durable stays unapplied."""
        self._applier.close()
        self._spool.await_deletes()

    def _former_epoch_is_durable(self) -> None:
        if self._ready:
            self._marker_ready = self._marker_ready or any(file.markers for file in self._ready)
            self._applier.hand_over(self._ready)
            self._ready = []
            while self._fences:
                self._passed(self._fences.pop())
        if self._dropped:
            self._spool.delete(self._dropped)
            self._dropped = []

    def _mark(self, marker: Marker) -> None:
        """Put it into the epoch's first segment, unless a later one has rows of its table, which it stands behind.

        Parts meet the markers of several workers in different orders: did each end a segment, rows of one part could
        wait for a marker that another part has behind rows that wait for the first part's (decision 0015). A source
        partition's marker comes in front of its epoch's rows, so rows that a fence finds in a later segment went the
        new way, from another worker.
        """
        if not self._chunks:
            self._chunks.append(Chunk())
        behind = self._chunks[0]
        if not isinstance(marker, Fence):
            behind = next((chunk for chunk in reversed(self._chunks) if chunk.has(marker.table)), behind)
        behind.markers.append(marker)

    def _begin(self) -> None:
        """Have what was gathered compacted and written, in a thread: the disk syncs files of several parts at once."""
        if self._chunks:
            self._finish()  # nothing, unless items came behind a sibling's snapshot
            self._fences += [each for chunk in self._chunks for each in chunk.markers if isinstance(each, Fence)]
            self._writing = self._writes.together(self._write, self._chunks, self._seq)
            self._chunks = []

    def _finish(self) -> None:
        """Wait for what `_begin` began."""
        if self._writing is None:
            return
        files, self._writing = self._writing.result(), None
        for file in files:
            self._seq = file.seq
            self._files.append(file)
            self._ready.append(file)
            self._applier.spooled(file)

    def _write(self, chunks: list[Chunk], seq: int) -> list[SegmentFile]:
        """Runs in a thread. Returns the segments written, numbered from seq + 1 on."""
        files: list[SegmentFile] = []
        for chunk in chunks:
            tables = chunk.compacted()
            if not tables and not chunk.markers:
                continue
            seq += 1
            metadata = {"flow": self._spool.flow, "part": self._spool.part, "seq": seq}
            try:
                files.append(self._spool.write(seq, tables, with_markers(metadata, chunk.markers)))
            except (HeadraceError, OSError) as error:  # in a cluster Bytewax loses the exception's text
                self._log.error("a segment could not be spooled", seq=seq, error=str(error))
                raise
        return files

    def _wait_for_room(self) -> None:
        """Backpressure: at most half of the bound waits for the target when the epoch's segment is written.

        It goes on over the half in two cases, where one more segment still fits: on a stop request, because the epoch
        in hand must close; and while the applier waits for a table whose marker was handed over in this very epoch,
        because the other parts of this worker get theirs only when this call returns.
        """
        gathered = sum(chunk.bytes for chunk in self._chunks)

        def room() -> bool:
            backlog = self._applier.backlog_bytes
            return backlog == 0 or backlog + gathered <= self._spool.backlog_bytes_max

        if not gathered or room():
            return
        started, waiting = monotonic(), SPOOL_WAITING.labels(str(self._spool.part))
        waiting.set(1)
        self._log.info("the spool is full: waiting for the target", backlog_bytes=self._applier.backlog_bytes)
        while not self._applier.wait_until(lambda: room() or self._excused(), _WAIT_STEP_S):
            pass
        waiting.set(0)
        SPOOL_WAIT.labels(str(self._spool.part)).inc(monotonic() - started)

    def _wait_for_more(self) -> None:
        """Where many segments wait for the target, an epoch stays open a while, so that the next takes more rows."""
        if not self._chunks or len(self._files) < _MANY_SEGMENTS:
            return

        def hurry() -> bool:
            return self._seq - self._applier.applied < _MANY_SEGMENTS or self._excused()

        until = self._closed_at + _LONG_EPOCH_S
        while (left_s := until - monotonic()) > 0 and not self._applier.wait_until(hurry, min(left_s, _WAIT_STEP_S)):
            continue

    def _excused(self) -> bool:
        """Whether the epoch in hand must close whatever waits."""
        return stop.requested() or (self._marker_ready and self._applier.waits_for_parts)


class SpooledSink(FixedPartitionedSink[Item, tuple[Any, ...]]):
    """A sink of `parts` fixed parts; items arrive as (str(part), Item).

    Args:
        flow_name: names files and progress rows. parts: fixed for the flow's life.
        spool_dir: shared by all processes. spool_bytes_max: bound over all parts, in bytes; each part has its share.
        store_id: identifies the state directory; the target refuses another one.
        writes: the same that the flow's keyed steps have.
        passed: told of each fence whose epoch is durable, by each part of this worker.
    """

    def __init__(
        self,
        flow_name: str,
        parts: int,
        spool_dir: Path,
        spool_bytes_max: int,
        store_id: str,
        target: Target,
        writes: EpochWrites | None = None,
        passed: Callable[[Fence], None] = lambda fence: None,
    ) -> None:
        if parts < 1:
            raise ConfigurationError(f"sink of flow {flow_name}: expected parts of at least 1, found {parts}")
        if "/" in flow_name or not flow_name:
            raise ConfigurationError(f"flow {flow_name!r}: expected a name that can be part of a file name")
        self._flow_name, self._parts, self._store_id, self._target = flow_name, parts, store_id, target
        self._spool_dir, self._part_bytes_max = Path(spool_dir), spool_bytes_max // parts
        # Bytewax takes part_fn's answer as an index into the sorted names, where "10" stands before "2".
        self._index = {name: index for index, name in enumerate(sorted(self.list_parts()))}
        self._start_wait_s = _START_WAIT_S
        self._writes, self._passed = EpochWrites() if writes is None else writes, passed
        self._built: dict[int, SinkPart] = {}

    def list_parts(self) -> list[str]:
        """All parts: the state directory is shared, so every worker can own any of them."""
        return [str(part) for part in range(self._parts)]

    def part_fn(self, item_key: str) -> int:
        """The key is the part's number."""
        return self._index[item_key]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> SinkPart:
        """Take over a part. Raises FatalError where recovery store, spool and target do not belong together."""
        log = _LOG.bind(flow=self._flow_name, part=int(for_part), step=step_id)
        try:
            manifest = Manifest(self._store_id) if resume_state is None else Manifest.from_state(resume_state)
            if manifest.store_id != self._store_id:
                raise FatalError(
                    f"flow {self._flow_name}, part {for_part}: the recovery store belongs to state directory "
                    f"{manifest.store_id}, this one is {self._store_id}; start with the one it was made with"
                )
            spool = Spool(self._spool_dir, self._flow_name, int(for_part), self._part_bytes_max)
            spool.open(manifest)
            applier = Applier(spool, manifest, self._target.open(int(for_part)))
            applier.start(self._start_wait_s)
            if applier.applied < 0:
                self._start_wait_s = 0.0  # the target is down: one wait for all parts, the source shall be drained
        except HeadraceError as error:
            log.error("a sink part cannot start", error=str(error))
            raise
        log.info("sink part starts", seq=manifest.seq, segments_waiting=len(manifest.files))
        return SinkPart(spool, manifest, applier, self._writes, self._built, self._passed)


def _compact(table: Table, record: pa.RecordBatch) -> pa.RecordBatch:
    if not table.key and not pc.any(op_is(record, Op.DELETE)).as_py():
        return record  # only additions: nothing cancels, and equal rows must all stay
    return compact(record, table)
