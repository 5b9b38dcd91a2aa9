"""Generated from proto/chat/v1."""
