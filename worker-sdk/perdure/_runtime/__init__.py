"""The workflow runtime: a deterministic event loop, replay, and the cache of runs.

Internal. User code sees :mod:`perdure.workflow`; the worker drives :class:`perdure._runtime.runner.WorkflowRunner`.
Modules here never import :mod:`perdure.workflow`, so that it may import them.
"""
