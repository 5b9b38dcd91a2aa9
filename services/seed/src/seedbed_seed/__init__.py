"""The seed service: membership, shard allocation and the gateway."""
