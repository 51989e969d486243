"""The pure core of matching: state, queues, leases. It knows no log, store, encoding or clock."""
