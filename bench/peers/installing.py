"""``python -m bench peers``: installs the other systems for ``compare``, each into a folder of its own.

Nothing of theirs comes into our environment: Python packages go into a virtual environment for each system, Restate's
server comes from npm, and all of it lies below ``.bench/peers``, which may be deleted. Versions are fixed here.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / ".bench" / "peers"


@dataclass(frozen=True)
class Peer:
    """A system to compare with.

    Attributes:
        about: what it is, and how it is run here.
        packages: from the Python package index.
        node_packages: from npm.
        module: the program that runs and measures it.
        arguments: what the program is given.
        server: the program of its own that it starts, below its folder; ``None`` if there is none.
    """

    about: str
    packages: tuple[str, ...]
    module: str
    node_packages: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    server: str | None = None


#: Peers with the same packages share a folder, named by what stands before the first dash.
PEERS = {
    "dbos": Peer("DBOS on SQLite, all in one process", ("dbos==3.4.0",), "bench.peers.dbos_peer"),
    "dbos-wal": Peer(
        "the same on an SQLite file with a write-ahead log",
        ("dbos==3.4.0",),
        "bench.peers.dbos_peer",
        arguments=("--wal",),
    ),
    "restate": Peer(
        "Restate, one node; server, services and client in a process each",
        ("restate-sdk==1.3.0", "hypercorn==0.18.0", "aiohttp==3.14.5"),
        "bench.peers.restate_peer",
        node_packages=("@restatedev/restate-server@1.7.12",),
        server="node_modules/@restatedev/restate-server-linux-x64/bin/restate-server",
    ),
    "temporal": Peer(
        "Temporal at a given address; worker and client in one process",
        ("temporalio==1.35.0",),
        "bench.peers.temporal_peer",
    ),
}


def folder_of(name: str) -> Path:
    """Where a peer is installed."""
    return FOLDER / name.partition("-")[0]


def interpreter_of(name: str) -> Path:
    """A peer's Python."""
    return folder_of(name) / "venv" / "bin" / "python"


def is_installed(name: str) -> bool:
    """Whether a peer is complete."""
    return (folder_of(name) / "installed").exists()


def command_of(name: str, *arguments: str) -> list[str]:
    """The command that runs a peer's program."""
    peer = PEERS[name]
    command = [str(interpreter_of(name)), "-m", peer.module, *peer.arguments]
    return command + ([str(folder_of(name) / peer.server)] if peer.server else []) + list(arguments)


def install(name: str) -> None:
    """Install a peer, from new.

    Raises:
        RuntimeError: npm is missing, or an installation failed; the message says which, and what it printed.
    """
    peer, folder = PEERS[name], folder_of(name)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder / "venv", with_pip=True)
    _run(name, [str(interpreter_of(name)), "-m", "pip", "install", "--quiet", *peer.packages])
    if peer.node_packages:
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(f"{name} needs npm, and there is none on the PATH: install Node.js first")
        _run(
            name,
            [
                npm,
                "install",
                "--no-fund",
                "--no-audit",
                "--ignore-scripts",
                "--prefix",
                str(folder),
                *peer.node_packages,
            ],
        )
    if peer.server and not (folder / peer.server).exists():
        raise RuntimeError(
            f"{name} is installed, but {folder / peer.server} is not there: its package is for Linux on x86-64"
        )
    (folder / "installed").touch()


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"installing {name} failed: {' '.join(command)}\n{(done.stdout + done.stderr)[-2000:]}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``peers``."""
    parser.add_argument("what", choices=["install", "list", "remove"])
    parser.add_argument("peer", nargs="*", help=f"of {', '.join(PEERS)}; default: all")


def main(options: argparse.Namespace) -> int:
    """Install, list or remove; the exit code tells whether all went well."""
    unknown = sorted(set(options.peer) - set(PEERS))
    if unknown:
        raise SystemExit(f"error: no such peer: {', '.join(unknown)}; choose from {', '.join(PEERS)}")
    code = 0
    done = set()
    for name in options.peer or PEERS:
        folder = folder_of(name)
        if options.what == "remove":
            shutil.rmtree(folder, ignore_errors=True)
        elif options.what == "install" and folder not in done:
            print(f"installing {name} into {folder}", flush=True)
            try:
                install(name)
            except RuntimeError as error:
                print(f"error: {error}", file=sys.stderr)
                code = 1
            done.add(folder)
        print(f"{name}: {'installed' if is_installed(name) else 'not installed'} ({PEERS[name].about})")
    return code
