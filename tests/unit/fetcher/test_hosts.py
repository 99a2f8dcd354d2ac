import pytest

from app.errors import HostBusy
from app.fetcher.hosts import HostTurns


def test_a_host_gets_as_many_turns_as_its_limit_and_no_more() -> None:
    turns = HostTurns(2)
    all_in_use = pytest.raises(HostBusy, match=r"all 2 connections to a\.test are in use")
    with turns.turn("a.test"), turns.turn("a.test"), all_in_use:
        turns.turn("a.test").__enter__()


def test_a_turn_that_was_given_back_may_be_taken_again() -> None:
    turns = HostTurns(1)
    for _ in range(3):
        with turns.turn("a.test"):
            pass
    with pytest.raises(ZeroDivisionError), turns.turn("a.test"):
        raise ZeroDivisionError
    with turns.turn("a.test"):
        pass


def test_hosts_do_not_get_in_each_others_way() -> None:
    turns = HostTurns(1)
    with turns.turn("a.test"), turns.turn("b.test"):
        assert len(turns) == 2


def test_zero_is_no_limit() -> None:
    turns = HostTurns(0)
    with turns.turn("a.test"), turns.turn("a.test"):
        assert len(turns) == 1


def test_a_host_is_forgotten_with_its_last_turn() -> None:
    turns = HostTurns(1)
    with turns.turn("a.test"), pytest.raises(HostBusy):
        turns.turn("a.test").__enter__()
    assert len(turns) == 0
