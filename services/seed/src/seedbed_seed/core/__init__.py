"""Pure state machines of the seed: no I/O, no clock, no randomness of their own."""
