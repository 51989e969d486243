"""Perdure's SDK: durable workflows as plain async Python, with the public names of the ``temporalio`` package.

The modules are the interface: :mod:`perdure.workflow` and :mod:`perdure.activity` to write workflows and activities,
:mod:`perdure.client` to start them, :mod:`perdure.worker` to run them; :mod:`perdure.common`, :mod:`perdure.converter`,
:mod:`perdure.exceptions`, :mod:`perdure.service` and :mod:`perdure.testing` beside them.
"""
