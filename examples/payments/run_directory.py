"""The directory of one run: its identity, the engine's data, the bank's ledger and the logs.

A directory belongs to one batch for good. Running the demo on it again goes on where the run ended: the workflow ids
are the same, so no payment is made twice. Called by the demo only.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from examples.payments.models import Batch


class WrongDirectoryError(Exception):
    """The directory belongs to another batch, or its run file is damaged; the message says what to do."""


@dataclass(frozen=True)
class RunDirectory:
    """A run's directory and its identity.

    Attributes:
        path: The directory.
        run_id: Part of every workflow id and of the task queue, so that runs on one engine do not meet.
    """

    path: Path
    run_id: str

    @property
    def engine(self) -> Path:
        """The dev server's data."""
        return self.path / "engine"

    @property
    def ledger(self) -> Path:
        """The bank's ledger."""
        return self.path / "ledger.db"

    @property
    def bank_ready(self) -> Path:
        """Where the bank writes its URL once it listens."""
        return self.path / "bank.url"

    @property
    def logs(self) -> Path:
        """The children's logs."""
        return self.path / "logs"

    @property
    def task_queue(self) -> str:
        """The task queue of this run."""
        return f"payments-{self.run_id}"

    def workflow_id(self, end_to_end_id: str) -> str:
        """The workflow id of a payment."""
        return f"payment-{self.run_id}-{end_to_end_id}"


def open_run_directory(path: Path, batch: Batch) -> RunDirectory:
    """Makes a directory the one of this batch, or goes on with it.

    Raises:
        WrongDirectoryError: It belongs to another batch.
        OSError: It cannot be made or written.
    """
    path = path.absolute()
    path.mkdir(parents=True, exist_ok=True)
    run_file = path / "run.json"
    digest = hashlib.sha256(repr(batch).encode()).hexdigest()
    try:
        values = json.loads(run_file.read_text(encoding="utf-8"))
        run_id, batch_digest = str(values["run_id"]), str(values["batch_digest"])
    except FileNotFoundError:
        run_id, batch_digest = uuid.uuid4().hex[:8], digest
        unfinished = run_file.with_name("run.json.new")
        unfinished.write_text(json.dumps({"run_id": run_id, "batch_digest": digest}), encoding="utf-8")
        unfinished.replace(run_file)
    except (ValueError, KeyError, TypeError):
        raise WrongDirectoryError(f"{run_file} is damaged; give another directory with --data") from None
    if batch_digest != digest:
        raise WrongDirectoryError(f"{path} belongs to a run of another batch; give another directory with --data")
    return RunDirectory(path, run_id)
