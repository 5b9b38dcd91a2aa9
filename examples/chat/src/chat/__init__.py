"""An example of Seedbed: rooms that tell their members what was said."""
