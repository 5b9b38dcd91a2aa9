"""Generated from proto/limiter/v1."""
