"""The audit of everything in the log: pure checks (``core``), and the shell that reads a cluster or a dump for them."""

from __future__ import annotations

from perdure_ops.audit.breach import CHECKS, Breach
from perdure_ops.audit.core import AUDITED, Audit, Counts, audit

__all__ = ["AUDITED", "CHECKS", "Audit", "Breach", "Counts", "audit"]
