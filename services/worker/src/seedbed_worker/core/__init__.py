"""Pure state machines of the worker: no I/O, no clock, no randomness of their own."""
