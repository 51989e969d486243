"""The HTTP API: every operation of the client for other languages, described by OpenAPI.

:mod:`~perdure_ops.http_api.operations` turns functions into routes and documentation; there is one module for each kind
of resource. Nothing in here is loaded before an HTTP server starts.
"""
