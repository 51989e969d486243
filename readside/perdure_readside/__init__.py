"""The read side: an index over the ``executions`` topic that answers lists and counts of workflow runs.

It is a cache: the topic is the truth, and the index can be deleted at any time.
"""
