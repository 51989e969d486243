"""One module for each family of commands. A handler yields the events and effects of its decision, one after the other;

the driver (:mod:`perdure_history.core.decide`) lets each event happen to the state before the handler goes on.
"""
