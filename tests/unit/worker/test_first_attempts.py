"""When turns first ran: remembered for the window, bounded."""

from __future__ import annotations

from seedbed_worker.core.first_attempts import FirstAttempts

TURN = ("order", "o-1", "key-1")


def test_a_repeat_gets_the_time_of_the_first_attempt() -> None:
    attempts = FirstAttempts(1000)
    assert attempts.at_ms(TURN, 5000) == 5000
    assert attempts.at_ms(TURN, 5999) == 5000
    assert attempts.at_ms(("order", "o-2", "key-1"), 5999) == 5999
    assert attempts.at_ms(TURN, 5999) == 5000


def test_after_the_window_it_is_another_call() -> None:
    attempts = FirstAttempts(1000)
    attempts.at_ms(TURN, 5000)
    assert attempts.at_ms(TURN, 6000) == 6000
    assert attempts.at_ms(TURN, 6500) == 6000


def test_what_is_past_the_window_is_forgotten() -> None:
    attempts = FirstAttempts(1000)
    for n in range(100):
        attempts.at_ms(("order", str(n), "key"), 5000 + n * 100)
        assert len(attempts) <= 10


def test_beyond_the_limit_the_oldest_are_forgotten() -> None:
    attempts = FirstAttempts(1_000_000, limit=3)
    for n in range(10):
        attempts.at_ms(("order", str(n), "key"), 5000 + n)
        assert len(attempts) <= 3
    assert attempts.at_ms(("order", "9", "key"), 6000) == 5009
    assert attempts.at_ms(("order", "0", "key"), 6000) == 6000
