"""What triggers decide, pure: order, batches, debouncing, identities, and which offsets may be committed.

No clock, ids, log or event loop; ``lint-imports`` checks it. Called by the shell around it in :mod:`perdure.kafka`.
"""
