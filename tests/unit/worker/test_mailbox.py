"""Order and bounds of one entity's calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from seedbed_worker.core.mailbox import Mailbox, Standing, Ticket


def writer() -> Ticket:
    return Ticket(exclusive=True)


def reader() -> Ticket:
    return Ticket(exclusive=False)


def test_the_first_begins_at_once() -> None:
    box = Mailbox[Ticket]()
    assert box.enter(writer())
    assert box.held


def test_writers_run_one_at_a_time_in_order() -> None:
    box = Mailbox[Ticket]()
    one, two, three = writer(), writer(), writer()
    assert [box.enter(t) for t in (one, two, three)] == [True, False, False]
    assert box.leave(one) == [two]
    assert box.leave(two) == [three]
    assert box.leave(three) == []
    assert not box.held


def test_readers_run_together() -> None:
    box = Mailbox[Ticket]()
    assert all(box.enter(reader()) for _ in range(3))
    assert box.size == 3


def test_no_reader_overtakes_a_waiting_writer() -> None:
    box = Mailbox[Ticket]()
    first, second, third = reader(), writer(), reader()
    assert [box.enter(t) for t in (first, second, third)] == [True, False, False]
    assert box.leave(first) == [second]
    assert box.leave(second) == [third]


def test_readers_that_stand_together_begin_together() -> None:
    box = Mailbox[Ticket]()
    first, *rest = writer(), reader(), reader(), writer(), reader()
    for ticket in (first, *rest):
        box.enter(ticket)
    assert box.leave(first) == rest[:2]


def test_a_ticket_may_enter_again_at_the_end_of_the_line() -> None:
    box = Mailbox[Ticket]()
    one, two = writer(), writer()
    box.enter(one)
    box.enter(two)
    assert box.leave(one) == [two]
    assert not box.enter(one)
    assert box.leave(two) == [one]


def test_a_writer_that_withdraws_lets_readers_behind_it_begin() -> None:
    box = Mailbox[Ticket]()
    first, second, third = reader(), writer(), reader()
    for ticket in (first, second, third):
        box.enter(ticket)
    assert box.withdraw(second) == [third]
    assert box.size == 2


def test_first_stands_before_all_others_but_not_beside_who_runs() -> None:
    box = Mailbox[Ticket]()
    running, waiting, urgent = reader(), writer(), writer()
    box.enter(running)
    box.enter(waiting)
    assert not box.enter(urgent, first=True)
    assert box.leave(running) == [urgent]
    assert box.leave(urgent) == [waiting]


def test_who_held_alone_may_go_on_as_a_reader() -> None:
    box = Mailbox[Ticket]()
    one, two, three = writer(), reader(), writer()
    for ticket in (one, two, three):
        box.enter(ticket)
    assert box.share(one) == [two]
    assert box.leave(two) == []
    assert box.leave(one) == [three]


def test_those_that_wait_can_be_taken_elsewhere() -> None:
    box, other = Mailbox[Ticket](), Mailbox[Ticket]()
    one, two, three = writer(), reader(), writer()
    for ticket in (one, two, three):
        box.enter(ticket)
    assert box.take_waiting() == [two, three]
    assert box.leave(one) == []
    assert [other.enter(two), other.enter(three)] == [True, False]


@pytest.mark.parametrize("misuse", ["enter twice", "leave", "withdraw", "share as a reader"])
def test_what_is_not_allowed_raises_and_changes_nothing(misuse: str) -> None:
    box = Mailbox[Ticket]()
    ticket = reader()
    if misuse in ("enter twice", "share as a reader"):
        box.enter(ticket)
    before = box.size
    event = {"leave": box.leave, "withdraw": box.withdraw, "share as a reader": box.share}
    with pytest.raises(ValueError, match="ticket"):
        event.get(misuse, box.enter)(ticket)
    assert box.size == before


class Line(RuleBasedStateMachine):
    """Any sequence of events: one writer at most, in order of arrival, and nobody lost."""

    @initialize()
    def begin(self) -> None:
        self.box = Mailbox[Ticket]()
        self.holding: list[Ticket] = []
        self.line: list[Ticket] = []

    @rule(exclusive=st.booleans(), first=st.booleans())
    def enter(self, exclusive: bool, first: bool) -> None:
        ticket = Ticket(exclusive=exclusive)
        if self.box.enter(ticket, first=first):
            assert first or not self.line, "overtook somebody who waits"
            self.holding.append(ticket)
        elif first:
            self.line.insert(0, ticket)
        else:
            self.line.append(ticket)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.holding:
            ticket = data.draw(st.sampled_from(self.holding))
            self.holding.remove(ticket)
            self.begun(self.box.leave(ticket))

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        if self.line:
            ticket = data.draw(st.sampled_from(self.line))
            self.line.remove(ticket)
            self.begun(self.box.withdraw(ticket))

    @rule()
    def share(self) -> None:
        if self.holding and self.holding[0].exclusive:
            self.begun(self.box.share(self.holding[0]))

    def begun(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            assert ticket is self.line.pop(0), "began out of order"
            self.holding.append(ticket)

    @invariant()
    def a_writer_is_alone(self) -> None:
        if any(ticket.exclusive for ticket in self.holding):
            assert len(self.holding) == 1

    @invariant()
    def nobody_is_lost(self) -> None:
        assert self.box.size == len(self.holding) + len(self.line)
        assert all(ticket.standing is Standing.HOLDING for ticket in self.holding)
        assert all(ticket.standing is Standing.WAITING for ticket in self.line)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if self.line:
            assert self.holding
            head = self.line[0]
            assert head.exclusive or self.holding[0].exclusive


TestLine = Line.TestCase


@given(st.lists(st.booleans(), max_size=30))
def test_everybody_who_enters_begins_once_the_others_have_left(writers: list[bool]) -> None:
    box = Mailbox[Ticket]()
    tickets = [Ticket(exclusive=exclusive) for exclusive in writers]
    begun = [ticket for ticket in tickets if box.enter(ticket)]
    for ticket in begun:  # grows meanwhile
        begun += box.leave(ticket)
    assert begun == tickets
    assert not box.held
    assert box.size == 0
