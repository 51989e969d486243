"""The ground the processors stand on: the log port and its adapters, the processor shell, the state store.

May be imported by the services, the SDK and ops; imports none of them. See :mod:`perdure_runtime.log` for the port.
"""
