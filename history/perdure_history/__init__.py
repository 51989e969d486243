"""HISTORY: decides every transition of every workflow run, and is the only writer of the ``history`` topic.

:mod:`perdure_history.core` is the pure core; :mod:`perdure_history.service` is what the engine runs.
"""
