"""Where what durable entities keep is written: the port (`port`), and its adapters."""
