"""Who may import whom: the contracts in pyproject.toml, and the two rules that only the syntax tree shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.habits import code

DRIVERS = {"confluent_kafka": "connectors/kafka", "psycopg": "connectors/postgres"}


def lint(*arguments: str, cwd: Path = code.ROOT) -> subprocess.CompletedProcess[str]:
    """Run import-linter."""
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_contracts_hold() -> None:
    """control > flows > connectors > libcore, systems independent, drivers at home: pyproject.toml has the list."""
    done = lint()
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_a_broken_contract_is_seen(tmp_path: Path) -> None:
    """A libcore module that reads the clock breaks its contract: the linter is really looking."""
    for package in code.PACKAGES:
        for path in code.files(".py", under=package):
            copy = tmp_path / path.relative_to(code.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text("utf-8"), "utf-8")
    (tmp_path / "pyproject.toml").write_text((code.ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    (tmp_path / "libcore" / "clock.py").write_text('"""A clock."""\n\nimport time\n\nNOW = time.time()\n', "utf-8")
    done = lint(cwd=tmp_path)
    assert done.returncode == 1
    assert "libcore.clock -> time" in done.stdout


def test_only_the_faces_touch_c() -> None:
    """libcore._c is imported by the modules directly in libcore and by nothing else."""
    found = {
        f"{code.name(path)}:{line}"
        for path in code.modules()
        for module, line in code.imports(path)
        if module.startswith("libcore._c") and path.parent != code.ROOT / "libcore"
    }
    assert not found


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_imported_at_home_only(driver: str) -> None:
    """A driver is imported in its system's folder and nowhere else in the product."""
    found = {
        f"{code.name(path)}:{line}"
        for path in code.modules("libcore", "connectors", "flows", "control")
        for module, line in code.imports(path)
        if module.split(".")[0] == driver and not code.name(path).startswith(DRIVERS[driver])
    }
    assert not found


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_imported_on_demand(driver: str) -> None:
    """The command line, the pipeline file and the flow load where a system that is not used is not installed."""
    program = f"import sys; sys.modules[{driver!r}] = None; import control.cli.main, flows.spec, flows.build"
    done = subprocess.run([sys.executable, "-c", program], cwd=code.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
