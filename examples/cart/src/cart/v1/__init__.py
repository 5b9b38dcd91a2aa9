"""Generated from proto/cart/v1."""
