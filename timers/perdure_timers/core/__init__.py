"""The pure core of timers: which wake-up is due. It knows no log, store, encoding or clock."""
