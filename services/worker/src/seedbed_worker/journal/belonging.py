"""Whose a journal is: what every adapter compares before anything is written.

Otherwise a cluster that is pointed at another one's journal would fence its owners, and one with
other numbers of shards would look for its entities in the wrong ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from seedbed_worker.journal.port import Whose, WrongJournal


def new_journal(cluster: str) -> Whose:
    """What an empty journal becomes."""
    return Whose(str(uuid4()), str(uuid4()), cluster, "")


def check_cluster(whose: Whose, cluster: str) -> None:
    """Raises `WrongJournal` if it is not this cluster's."""
    if whose.cluster != cluster:
        raise WrongJournal(
            f"the journal belongs to the cluster {whose.cluster!r}, this is {cluster!r}:"
            " give each cluster a journal of its own (SEEDBED_JOURNAL)"
        )


def check_uid(whose: Whose, cluster_uid: str) -> None:
    """Raises `WrongJournal` if another incarnation of the cluster has bound it."""
    if whose.cluster_uid not in ("", cluster_uid):
        raise WrongJournal(
            f"the journal belongs to the cluster with the uid {whose.cluster_uid}, this one has"
            f" {cluster_uid}: if etcd was lost and is new, bind the journal to it"
            " (`seedbed adopt`);"
            " else give this cluster a journal of its own (SEEDBED_JOURNAL)"
        )


def check_counts(stored: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raises `WrongJournal` if a type that is there has another number of shards."""
    for type_, count in wanted.items():
        if stored.get(type_, count) != count:
            raise WrongJournal(
                f"in the journal, {type_} has {stored[type_]} shards, in this cluster {count}:"
                " a type's number of shards is for ever, so declare the journal's number"
                " or give this cluster a journal of its own (SEEDBED_JOURNAL)"
            )
