"""How often somebody may try to sign in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.web.attempts import KEYS, PER_ADDRESS, PER_NAME, PER_NAME_AND_ADDRESS, WINDOW, Attempts

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_the_window_slides() -> None:
    """Five failures block until the first of them is five minutes old, to the second."""
    attempts = Attempts()
    for second in range(PER_NAME_AND_ADDRESS):
        assert attempts.wait("nora", "a", NOW) is None
        attempts.failed("nora", "a", NOW + timedelta(seconds=second))

    assert attempts.wait("nora", "a", NOW + timedelta(seconds=10)) == WINDOW - timedelta(seconds=10)
    assert attempts.wait("nora", "b", NOW) is None
    assert attempts.wait("nora", "a", NOW + WINDOW) is None


def test_success_forgets_the_mistyping() -> None:
    """Of that name at that address."""
    attempts = Attempts()
    for _ in range(PER_NAME_AND_ADDRESS):
        attempts.failed("nora", "a", NOW)

    attempts.succeeded("nora", "a")

    assert attempts.wait("nora", "a", NOW) is None


def test_a_busy_ward_behind_one_address_is_no_attack() -> None:
    """However often people sign in rightly, nobody waits."""
    attempts = Attempts()
    for number in range(2 * PER_ADDRESS):
        attempts.failed(f"n{number}", "a", NOW)
        attempts.succeeded(f"n{number}", "a")

    assert attempts.wait("somebody", "a", NOW) is None


def test_one_address_cannot_try_many_names() -> None:
    """Thirty failures, whatever the names."""
    attempts = Attempts()
    for number in range(PER_ADDRESS):
        attempts.failed(f"n{number}", "a", NOW)

    assert attempts.wait("somebody", "a", NOW) == WINDOW
    assert attempts.wait("somebody", "b", NOW) is None


def test_nobody_is_locked_out_where_they_signed_in_before() -> None:
    """Guessing at a name from many addresses blocks new addresses, not the nurse's own."""
    attempts = Attempts()
    attempts.succeeded("nora", "ward")
    for number in range(PER_NAME):
        attempts.failed("nora", f"a{number}", NOW)

    assert attempts.wait("nora", "new", NOW) == WINDOW
    assert attempts.wait("nora", "ward", NOW) is None


def test_what_is_remembered_is_bounded() -> None:
    """The oldest are forgotten first."""
    attempts = Attempts()
    for number in range(2 * KEYS):
        attempts.failed("nora", f"a{number}", NOW)
        attempts.succeeded("ben", f"a{number}")

    assert len(attempts._failures) <= KEYS
    assert len(attempts._known) <= KEYS
