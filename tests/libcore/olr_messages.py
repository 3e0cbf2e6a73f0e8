"""OpenLogReplicator's messages, made from a random.Random: good, spoilt in one byte, or odd in one of their parts."""

from __future__ import annotations

import json
from random import Random
from typing import Any

TABLES = ["ERP.ITEMS", "ERP.ORDERS", "SAPSR3./BIC/AZSD", "T"]
_SCHEMAS: list[dict[str, Any]] = [
    {"owner": "ERP", "table": "ITEMS"},
    {"owner": "ERP", "table": "ITEMS", "obj": 73412},
    {"owner": "ERP", "table": "ORDERS", "columns": [{"name": "ID", "type": "number", "precision": 10, "scale": 0}]},
    {"owner": "SAPSR3", "table": "/BIC/AZSD"},
    {"table": "T"},
    {"table": "OBJ_73412", "obj": 73412},
    {"owner": "ERP", "table": "ÜBER"},
    {"obj": 1, "table": "ITEMS", "owner": "ERP"},
]
_ODD_SCHEMAS = ("{}", "1", "null", '{"owner":"ERP"}', '{"owner":1,"table":"T"}', '{"owner":"ERP","table":null}',
                '{"table":"T","table":"T"}', '{"owner":"a","owner":"b","table":"T"}', '{"table":"\\ud800"}',
                '{"tabl\\u0065":"T"}', '{ "owner" : "ERP" , "table" : "ITEMS" }',
                '{"owner":"\\u0045RP","table":"ITEMS"}',
                '{"owner":{"table":"x"},"table":"T"}', '{"owner":"","table":""}')  # fmt: skip
_ODD_CHANGES = ("1", "[]", "{}", '{"op":null}', '{"op":"x"}', '{"op":"C"}', '{"op":"c","op":"c"}', '{"op":"c"}',
                '{"schema":{"table":"T"}}', '{"op":"\\u0063","schema":{"table":"T"}}', '{"op":"d","schema":[]}',
                '{"op":"ddl"}', '{"op":"ddl","schema":{"table":"T"},"sql":"drop table T"}', '{"op":"begin","schema":1}',
                '{"schema":{"table":"T"},"schema":{"table":"T"},"op":"c"}')  # fmt: skip
_ODD_MESSAGES = ("", " ", "null", "[]", '"x"', "{}", '{"payload":null}', '{"payload":{}}', '{"payload":[]}x',
                 '{"payload":[],"payload":[]}', '{"payload":[1],"payload":2}', "{" * 70, '{"scn":1,}', '{"scn" 1}',
                 '{"payload":[{"op":"begin"},]}', '{"payload":[{"op":"commit"}', ' { "payload" : [ ] } ', '{"a":1 "b"}',
                 '{"payload":[{"op":"c","schema":{"table":"T"},"after":' + "[" * 61 + "]" * 61 + "}]}",
                 '{"payload":[{"op":"c","schema":{"table":"T"},"after":' + "[" * 62 + "]" * 62 + "}]}")  # fmt: skip


def _written(value: Any) -> str:
    """JSON as OpenLogReplicator writes it: compact, with each slash escaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("/", "\\/")


def _change(r: Random, wild: float) -> str:
    if r.random() < wild:
        return r.choice(_ODD_CHANGES)
    schema = r.choice(_ODD_SCHEMAS) if r.random() < wild else _written(r.choice(_SCHEMAS))
    row = _written({"ID": r.randrange(100), "NAME": r.choice(("x", "a/b", 'q"\\', "ü", None))})
    op = r.choice("cud")
    images = {"c": f'"after":{row}', "u": f'"before":{row},"after":{row}', "d": f'"before":{row}'}[op]
    return f'{{"op":"{op}","schema":{schema},"num":{r.randrange(9)},"rid":"AAASgjAAMAAAACnAAA",{images}}}'


def message(r: Random, wild: float) -> bytes | None:
    """A message, NULL now and then; `wild`: how often each of its parts is odd."""
    if r.random() < wild:
        return r.choice((None, *(odd.encode() for odd in _ODD_MESSAGES)))
    changes = [_change(r, wild) for _ in range(r.choice((1, 1, 1, 0, 2, 7)))]
    changes += r.choice(([], [], ['{"op":"begin"}'], ['{"op":"chkpt","seq":1763,"offset":15872,"redo":true}']))
    head = f'"scn":{r.randrange(10**9)},"tm":1651384800000000000,"c_scn":17958201,"c_idx":{r.randrange(99)},"xid":"0x1"'
    data = f'{{{head},"payload":[{r.choice((",", " , ")).join(changes)}]}}'.encode()
    if r.random() >= wild / 2:
        return data
    at = r.randrange(len(data))
    return r.choice((data[:at], data[:at] + r.randbytes(1) + data[at + 1 :], data[:at] + data[at + 1 :]))
