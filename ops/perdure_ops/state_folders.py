"""What ``perdure rebuild-state`` does: throws state away that is folded from the log again. Called by its command.

Invariants: a store that a process has open is never touched; nothing but what an engine keeps is deleted: a folder is a
role's store only if RocksDB or the read side made it.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import typer

from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, print_rows
from perdure_ops.roles import ROLE_NAMES
from perdure_readside.index import remove_index
from perdure_readside.service import INDEX_FILE
from perdure_runtime.store import StateStoreError, require_unused

__all__ = ["Store", "rebuild", "stores_in"]

READ_SIDE = "readside"
COLUMNS = ("role", "folder", "bytes")
#: What RocksDB has in each of its folders.
_ROCKSDB_FILE = "CURRENT"


class Store(NamedTuple):
    """A role's store in a state folder."""

    role: str
    folder: Path
    bytes: int


def stores_in(folder: Path, roles: tuple[str, ...]) -> list[Store]:
    """The stores of roles in a state folder or in folders below it: ``NAMESPACE/INSTANCE/ROLE``.

    Raises:
        CliError: there is no such folder.
    """
    if not folder.is_dir():
        raise CliError(f"there is no folder {folder}; it is the engine's --state-dir, or one in it")
    found = []
    for role in roles:
        marker = INDEX_FILE if role == READ_SIDE else _ROCKSDB_FILE
        for file in sorted(folder.glob(f"**/{role}/{marker}")):
            size = sum(one.stat().st_size for one in file.parent.rglob("*") if one.is_file())
            found.append(Store(role, file.parent, size))
    return found


def rebuild(folder: Path, roles: list[str], *, dry_run: bool, assume_yes: bool, output: OutputFormat) -> None:
    """Delete the stores, after asking.

    Raises:
        CliError: the folder or a role is wrong, or an engine has a store open; nothing was deleted then.
    """
    known = (*ROLE_NAMES, READ_SIDE)
    unknown = sorted(set(roles) - set(known))
    if unknown:
        raise CliError(f"--role: {', '.join(unknown)} is none of {', '.join(known)}")
    stores = stores_in(folder, tuple(roles) or known)
    if stores or output is not OutputFormat.TABLE:
        print_rows([store._asdict() for store in stores], output, COLUMNS)
    if not stores:
        typer.echo(f"nothing to delete in {folder}", err=output is not OutputFormat.TABLE)
        return
    for store in stores:
        _require_unused(store)
    if dry_run:
        typer.echo(f"{len(stores)} stores would be deleted", err=output is not OutputFormat.TABLE)
        return
    if not assume_yes and not typer.confirm(f"Delete {len(stores)} stores?", err=True):
        raise CliError("nothing was deleted")
    for store in stores:
        if store.role == READ_SIDE:
            remove_index(store.folder / INDEX_FILE)
        else:
            shutil.rmtree(store.folder)
    typer.echo(
        f"{len(stores)} stores deleted; the next start folds them from the log, see `perdure partitions`",
        err=output is not OutputFormat.TABLE,
    )


def _require_unused(store: Store) -> None:
    """Raise if a process has a store open. A damaged one is used by nobody."""
    if store.role == READ_SIDE:
        database = sqlite3.connect(store.folder / INDEX_FILE, timeout=0.0)
        try:
            # A reader keeps a share of the lock even while it does nothing.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.rollback()
        except sqlite3.OperationalError as error:
            raise CliError(f"{store.folder} is in use: stop the engine first") from error
        except sqlite3.DatabaseError:
            return
        finally:
            database.close()
        return
    try:
        require_unused(store.folder)
    except StateStoreError as error:
        if not error.damaged:
            raise CliError(f"{store.folder} cannot be deleted: {error}") from error
