"""An example of Seedbed: a shopping cart that is made of events."""
