"""What movement costs callers: calls at a steady rate while shards move, by size of the cluster."""
