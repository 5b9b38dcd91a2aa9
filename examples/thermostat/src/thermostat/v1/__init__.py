"""Generated from proto/thermostat/v1."""
