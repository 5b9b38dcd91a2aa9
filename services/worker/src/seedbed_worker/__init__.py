"""The worker service: it hosts entities."""
