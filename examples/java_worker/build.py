"""Builds the worker: Maven fetches its two libraries, ``javac`` compiles it. Each is done once, into a cache folder.

Called by ``python -m examples.java_worker`` and by the test.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import perdure_schemas.avro

HERE = Path(__file__).parent
_FETCH = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_FETCH_TIMEOUT_S = 600
_COMPILE_TIMEOUT_S = 300


class JavaUnavailableError(Exception):
    """The worker cannot be built here. The message says what is missing, or what a tool said."""


def build() -> tuple[Path, Path]:
    """The folders of the classes and of the jars they need; made when they are not there yet.

    Raises:
        JavaUnavailableError: Java 17 with its compiler, or Maven, is missing, or one of them failed.
    """
    sources = sorted((HERE / "src").rglob("*.java"))
    content = b"".join(path.read_bytes() for path in [HERE / "pom.xml", *sources])
    cache = Path(os.environ.get("PERDURE_KAFKA_CACHE") or Path.home() / ".cache" / "perdure")
    jars = _made(cache / f"java-worker-jars-{_name((HERE / 'pom.xml').read_bytes())}", _fetch)
    classes = _made(cache / f"java-worker-{_name(content)}", lambda folder: _compile(sources, jars, folder))
    return classes, jars


def command(bootstrap: str, namespace: str, task_queue: str) -> list[str]:
    """The command that runs the worker; it ends in good order with ``SIGTERM``.

    Raises:
        JavaUnavailableError: it cannot be built.
    """
    classes, jars = build()
    java = [_tool("java"), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", f"{classes}:{jars}/*"]
    schemas = str(perdure_schemas.avro.SCHEMA_FOLDER)
    return [*java, "io.perdure.example.Main", bootstrap, namespace, task_queue, schemas]


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _made(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that is either complete or not there: made beside its place, then moved."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="java-worker-", dir=folder.parent))
    try:
        make(work)
        try:
            work.rename(folder)
        except OSError:  # somebody else was faster
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _fetch(folder: Path) -> None:
    _run(
        [_tool("mvn"), "-q", "-B", "-f", str(HERE / "pom.xml"), _FETCH, f"-DoutputDirectory={folder}"], _FETCH_TIMEOUT_S
    )


def _compile(sources: list[Path], jars: Path, folder: Path) -> None:
    options = ["-Xlint:all", "-Werror", "--release", "17", "-cp", f"{jars}/*", "-d", str(folder)]
    _run([_tool("javac"), *options, *map(str, sources)], _COMPILE_TIMEOUT_S)


def _run(arguments: list[str], timeout_s: float) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise JavaUnavailableError(f"{Path(arguments[0]).name} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def _tool(name: str) -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which(name)
    if found is None:
        raise JavaUnavailableError(f"{name} is not installed (needed are a JDK of version 17 or newer, and Maven)")
    return found
