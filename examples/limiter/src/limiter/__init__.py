"""An example of Seedbed: a rate limiter that never touches a store."""
