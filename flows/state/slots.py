"""Names for slots, chosen so that Bytewax spreads them evenly: within one over any 1 to 8 workers.

Bytewax gives a key to the worker `SipHash-1-3(key) mod workers`. A slot's name is the smallest number, as text, whose
hash is congruent to the slot modulo 840, the least common multiple of 1 to 8: then slot s is on worker s mod workers.
The names are part of the recovery store, so this choice is for life.
"""

from __future__ import annotations

from functools import lru_cache

_MODULUS = 840
_WORD = (1 << 64) - 1
# The default number of slots: found once, because to find them takes 0.1 s of every start.
_FIRST = (
    89, 505, 48, 598, 1440, 256, 2035, 496, 1947, 104, 841, 459, 1004, 1264, 299, 722, 330, 159, 1816, 172, 1018,
    3694, 1731, 20, 195, 42, 37, 547, 626, 1765, 930, 2968, 979, 2865, 171, 760, 408, 605, 61, 288, 876, 111, 1735,
    960, 396, 821, 2193, 96, 94, 528, 389, 568, 108, 1584, 1160, 278, 220, 1779, 90, 2068, 318, 1179, 145, 796,
)  # fmt: skip


def worker_of(key: str, workers: int) -> int:
    """The worker, 0 to workers - 1, that Bytewax 0.21 gives a key to."""
    return _siphash13(key.encode() + b"\xff") % workers


@lru_cache(maxsize=16)
def slot_names(slots: int) -> tuple[str, ...]:
    """The Bytewax key of each slot."""
    if slots <= len(_FIRST):
        return tuple(str(number) for number in _FIRST[:slots])
    return find_slot_names(slots)


def find_slot_names(slots: int) -> tuple[str, ...]:
    """The names anew: about 5,000 hashes for 64 slots, 10,000 for 4,096."""
    waiting: dict[int, list[int]] = {}
    for slot in reversed(range(slots)):
        waiting.setdefault(slot % _MODULUS, []).append(slot)
    names = [""] * slots
    number = 0
    while waiting:
        residue = _siphash13(str(number).encode() + b"\xff") % _MODULUS
        if residue in waiting:
            names[waiting[residue].pop()] = str(number)
            if not waiting[residue]:
                del waiting[residue]
        number += 1
    return tuple(names)


@lru_cache(maxsize=16)
def slot_workers(slots: int, workers: int) -> bytes:
    """The worker of each slot, as `libcore.slots.scatter` wants its buckets: at most 256 (ValueError)."""
    return bytes(worker_of(name, workers) for name in slot_names(slots))


def _siphash13(data: bytes) -> int:
    """SipHash with 1 compression and 3 finalisation rounds and a zero key, as Rust's DefaultHasher has it."""
    v0, v1, v2, v3 = 0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573
    tail = len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - tail, 8)]
    words.append(int.from_bytes(data[len(data) - tail :], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v0, v1, v2, v3 = _round(v0, v1, v2, v3 ^ word)
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _WORD
    v1 = ((v1 << 13 | v1 >> 51) & _WORD) ^ v0
    v0 = (v0 << 32 | v0 >> 32) & _WORD
    v2 = (v2 + v3) & _WORD
    v3 = ((v3 << 16 | v3 >> 48) & _WORD) ^ v2
    v0 = (v0 + v3) & _WORD
    v3 = ((v3 << 21 | v3 >> 43) & _WORD) ^ v0
    v2 = (v2 + v1) & _WORD
    v1 = ((v1 << 17 | v1 >> 47) & _WORD) ^ v2
    v2 = (v2 << 32 | v2 >> 32) & _WORD
    return v0, v1, v2, v3
