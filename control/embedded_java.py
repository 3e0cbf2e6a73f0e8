"""Java programs for tests: which Java there is, and a program's jars, fetched once through Maven.

The jars lie in a folder of the cache directory: $HEADRACE_CACHE, else ~/.cache/headrace.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from control.embedded_server import ServerError

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>headrace</groupId><artifactId>{name}</artifactId><version>1</version><dependencies><dependency>
<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>
</dependency></dependencies></project>
"""


@dataclass(frozen=True)
class JavaProgram:
    """A program by its Maven coordinates. `name` is for messages and the cache; `java_min` is Java's major version."""

    name: str
    group: str
    artifact: str
    version: str
    java_min: int

    @property
    def available(self) -> bool:
        """True where Java is new enough, and Maven or the cached jars are there."""
        return _java_version() >= self.java_min and (self._cached().exists() or shutil.which("mvn") is not None)

    def libraries(self) -> Path:
        """The folder of jars, fetched through Maven where it is missing. Raises ServerError."""
        if not self.available:
            raise ServerError(f"{self.name} needs Java {self.java_min} or newer and, once, Maven: install both")
        target = self._cached()
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{self.name}-") as scratch:
            pom = Path(scratch) / "pom.xml"
            pom.write_text(
                _POM.format(name=self.name, group=self.group, artifact=self.artifact, version=self.version), "utf-8"
            )
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={scratch}/lib"]
            done = subprocess.run(
                ["mvn", "-q", "-B", "-f", str(pom), *goal], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise ServerError(f"Maven could not fetch {self.name} {self.version}:\n{done.stdout}{done.stderr}")
            # Several processes may fetch at the same time: the first rename wins, and both copies are the same.
            if not target.exists():
                (Path(scratch) / "lib").rename(target)
        return target

    def _cached(self) -> Path:
        cached = os.environ.get("HEADRACE_CACHE")
        return (Path(cached) if cached else Path.home() / ".cache" / "headrace") / f"{self.name}-{self.version}"


def java(libraries: Path, heap_mb: int, *arguments: str) -> list[str]:
    """The command line that runs a main class of a folder of jars: options of Java, the class, its arguments."""
    return [_java(), f"-Xmx{heap_mb}m", "-cp", f"{libraries}/*", *arguments]


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    return found or shutil.which("java") or "java"


def _java_version() -> int:
    """Major version of the installed Java, 0 where there is none."""
    if shutil.which(_java()) is None:
        return 0
    done = subprocess.run([_java(), "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(match.group(1)) if match else 0
