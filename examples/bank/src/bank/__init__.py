"""An example of Seedbed: accounts, and transfers that call them."""
