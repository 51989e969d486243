"""One suite for every adapter of the ``Log`` port, written from the promises in :mod:`perdure_runtime.log`."""
