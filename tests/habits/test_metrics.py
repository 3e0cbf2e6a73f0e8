"""Every metric that a dashboard, an alert or a document names is in the catalogue, and the catalogue is documented."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml
from prometheus_client import Counter, Gauge, Histogram

from connectors.base import metrics
from tests.habits import code

REFERENCE = code.ROOT / "docs" / "reference" / "metrics.md"
# tables in the target and files in the state directory, which look like metrics
NOT_METRICS = re.compile(r"headrace_(?:(?:progress|tables|truncates|dead_letters|id)\b(?!_)|log_)")
_SUFFIX = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_sum", "_count")}


def catalogue() -> dict[str, Counter | Gauge | Histogram]:
    """The metrics by their name without a suffix."""
    found = [metric for metric in vars(metrics).values() if isinstance(metric, Counter | Gauge | Histogram)]
    return {metric._name: metric for metric in found}


def exposed() -> set[str]:
    """Every name that /metrics shows."""
    return {name + suffix for name, metric in catalogue().items() for suffix in _SUFFIX[type(metric)]}


def rendered() -> str:
    """The reference page."""
    head = [
        "# Metrics",
        "",
        "On `/metrics` of each worker (`headrace run FILE --metrics-port P`: worker i listens on P + i). Written by",
        "`make golden` from connectors/base/metrics.py.",
        "",
        "| name | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    rows = []
    for name, metric in sorted(catalogue().items()):
        shown = f"{name}_total" if isinstance(metric, Counter) else name
        kind, labels = type(metric).__name__.lower(), ", ".join(metric._labelnames)
        rows.append(f"| `{shown}` | {kind} | {labels} | {metric._documentation} |")
    return "\n".join(head + rows) + "\n"


def named(path: Path) -> set[str]:
    """The metrics that a file names."""
    text = NOT_METRICS.sub("", path.read_text("utf-8"))
    return set(re.findall(r"\bheadrace_[a-z0-9_]*[a-z0-9]", text))


def test_every_metric_named_exists() -> None:
    """Dashboards and alerts name only metrics that a worker exposes, with the suffix that Prometheus sees."""
    unknown = {
        code.name(path): missing
        for path in code.files(".json", ".yaml", ".yml", under="k8s")
        if (missing := named(path) - exposed())
    }
    assert not unknown


def test_the_documents_name_only_metrics_that_exist() -> None:
    """README and docs name only metrics of the catalogue."""
    known = exposed() | set(catalogue())
    unknown = {
        code.name(path): missing
        for path in [code.ROOT / "README.md", *code.files(".md", under="docs")]
        if (missing := named(path) - known)
    }
    assert not unknown


def test_the_reference_is_up_to_date() -> None:
    """docs/reference/metrics.md is what the catalogue gives; `make golden` writes it."""
    if os.environ.get("HEADRACE_GOLDEN") == "write":
        REFERENCE.parent.mkdir(parents=True, exist_ok=True)
        REFERENCE.write_text(rendered(), "utf-8")
    assert REFERENCE.read_text("utf-8") == rendered()


def test_units_stand_in_the_names() -> None:
    """Every metric carries the product's prefix, and times are in seconds or say ms."""
    assert len(catalogue()) >= 10
    for name, metric in catalogue().items():
        assert name.startswith("headrace_")
        assert metric._documentation
        if isinstance(metric, Histogram):
            assert name.endswith(("_seconds", "_bytes", "_rows"))


def test_every_alert_has_a_runbook() -> None:
    """Each alert's runbook_url is a section of a page of docs, which says more than its name."""
    rules = [
        rule
        for path in code.files(".yaml", under="k8s/monitoring")
        for document in yaml.safe_load_all(path.read_text("utf-8"))
        for group in document["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) >= 4
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        sections = re.split(r"^## ", (code.ROOT / page).read_text("utf-8"), flags=re.M)[1:]
        texts = {title.strip().lower(): text for title, _, text in (section.partition("\n") for section in sections)}
        assert anchor == rule["alert"].lower()
        assert len(texts.get(anchor, "")) > 200, rule["alert"]
