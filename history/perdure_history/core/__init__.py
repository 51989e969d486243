"""The pure core of HISTORY: commands and state in, events and effects out.

``decide`` turns a command into the events of its decision, ``evolve`` is the only writer of state, ``react`` says what
other topics have to learn. Nothing here reads a clock, makes an id, or knows topics, bytes or partitions: the same
commands give the same events, on every owner and in every test.
"""
