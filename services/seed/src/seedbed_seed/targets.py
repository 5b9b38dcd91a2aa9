"""What an operator's order names, checked against what there is; refusals say what that is."""

from __future__ import annotations

from collections.abc import Iterable

from seedbed.errors import CallError, Reason
from seedbed.settings import NAME, NAME_RULE
from seedbed_seed.cluster_view import ClusterView


def bad_request(message: str) -> CallError:
    """A refusal of what the caller asks for."""
    return CallError(Reason.BAD_REQUEST, message)


def check_type(view: ClusterView, type_: str) -> int:
    """Shards of this type. Raises `CallError` if there is no such type."""
    known = view.contracts.get(type_)
    if known is None:
        names = ", ".join(sorted(view.contracts)) or "none yet"
        raise bad_request(f"no entity type {type_!r} in this cluster; known: {names}")
    return known.contract.shard_count


def check_shards(view: ClusterView, type_: str, shards: Iterable[int]) -> list[int]:
    """These shards of the type, in order. Raises `CallError` if one of them is not there."""
    count = check_type(view, type_)
    wanted = sorted(set(shards))
    if not wanted:
        raise bad_request(f"no shard named; {type_} has shards 0 to {count - 1}")
    if wanted[-1] >= count:
        raise bad_request(f"{type_} has no shard {wanted[-1]}: it has shards 0 to {count - 1}")
    return wanted


def check_name(node_id: str) -> str:
    """A node's name, be the node there or not. Raises `CallError` if it cannot be one."""
    if not NAME.fullmatch(node_id):
        raise bad_request(f"{node_id!r} cannot be a node id, which is {NAME_RULE}")
    return node_id


def check_worker(view: ClusterView, node_id: str) -> str:
    """A worker that is there, or of which there are orders. Raises `CallError` otherwise."""
    if node_id in view.workers or node_id in view.orders.cordoned | view.orders.draining:
        return node_id
    if node_id in view.seeds:
        raise bad_request(f"{node_id} is a seed: only workers own shards")
    names = ", ".join(sorted(view.workers)) or "none"
    raise bad_request(
        f"no worker {node_id!r} in this cluster, nor an order for it; workers: {names}"
    )
