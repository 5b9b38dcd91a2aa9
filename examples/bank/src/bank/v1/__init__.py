"""Generated from proto/bank/v1."""
