"""An example of Seedbed: one entity for each thermostat."""
