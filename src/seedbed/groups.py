"""Exception groups, in which task groups wrap what their tasks raise: what is in them."""

from __future__ import annotations

from typing import cast


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, in its order; of any other error itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    # A check by isinstance leaves the type of what is in it unknown.
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for inner in group.exceptions for leaf in leaves(inner)]
