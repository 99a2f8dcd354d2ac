"""The checker is shown a history for each way to break a promise, and has to find it."""

from dataclasses import replace

import pytest

from tests.checker import Evidence, Finding, Record, Report, StoredOutcome, judge
from tests.history import Get, History, Hit, Post
from tests.listener import Heard

URL = "http://site/page"


def a_post(sent: float, request_id: str = "r1", *, status: int = 202, fault: str = "none") -> Post:
    return Post(URL, sent, sent + 0.1, status, request_id, fault)


def a_get(sent: float, hit: int | None, *, status: int = 200) -> Get:
    return Get(URL, sent, sent + 0.1, status, hit)


def a_hit(number: int, began: float, *, status: int = 200) -> Hit:
    return Hit(number, URL, began, status)


def evidence(*records: Record, **changes: object) -> Evidence:
    values: dict[str, object] = {"ended_requests": frozenset({"r1", "r2"}), **changes}
    return Evidence(records, **values)  # type: ignore[arg-type]  # a test names what it changes


COMPLETED = Record(URL, "COMPLETED", hit=1)


def judged(  # noqa: PLR0913 (one for each thing that can be seen)
    shown: Evidence,
    *,
    posts: tuple[Post, ...] = (a_post(sent=1),),
    gets: tuple[Get, ...] = (),
    hits: tuple[Hit, ...] = (a_hit(1, began=2),),
    malformed: tuple[bytes, ...] = (),
    failing: frozenset[str] = frozenset(),
) -> Report:
    history = History()
    history.posts, history.gets, history.malformed = list(posts), list(gets), list(malformed)
    return judge(history, hits, failing, shown)


def kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings]


def test_a_page_that_was_fetched_after_its_post_is_fine() -> None:
    report = judged(evidence(COMPLETED), gets=(a_get(3, hit=1), a_get(4, hit=1)))
    assert report.is_clean
    assert report.accepted == {"none": 1}


def test_an_accepted_request_without_a_record_is_lost() -> None:
    assert kinds(judged(evidence())) == ["lost"]


def test_a_page_that_a_get_said_was_queued_is_lost_without_a_record() -> None:
    assert kinds(judged(evidence(), posts=(), gets=(a_get(1, None, status=202),))) == ["lost"]


@pytest.mark.parametrize("status", [0, 503])
def test_a_request_that_was_not_accepted_may_be_lost(status: int) -> None:
    assert judged(evidence(), posts=(a_post(1, status=status),)).is_clean


@pytest.mark.parametrize(
    "record",
    [
        Record(URL, "QUEUED"),
        Record(URL, "IN_PROGRESS"),
        Record(URL, "FAILED_RETRYABLE"),
        Record(URL, "COMPLETED", is_finished=False, hit=1),
        Record(URL, "COMPLETED", waiting=1, hit=1),
    ],
)
def test_a_record_without_an_end_is_stuck(record: Record) -> None:
    assert kinds(judged(evidence(record))) == ["stuck"]


def test_a_request_whose_end_nobody_logged_is_stuck() -> None:
    posts = (a_post(1), a_post(1.5, "another"))
    (finding,) = judged(evidence(COMPLETED), posts=posts).findings
    assert finding.kind == "stuck"
    assert "another" in finding.detail


def test_a_message_that_is_left_in_a_queue_is_stuck() -> None:
    shown = evidence(COMPLETED, messages_left={"t.requests": 0, "t.retries": 2})
    assert judged(shown).findings == [Finding("stuck", "queue t.retries", "2 messages are left")]


def test_a_page_with_two_records_is_reported() -> None:
    assert kinds(judged(evidence(COMPLETED, COMPLETED))) == ["stuck"]


@pytest.mark.parametrize(
    "record",
    [
        Record(URL, "FAILED_PERMANENT", error_kind="attempts_exhausted"),
        Record(URL, "COMPLETED", error_kind="timeout", hit=1),
    ],
)
def test_a_failure_of_a_page_whose_site_answers_200_is_false(record: Record) -> None:
    assert kinds(judged(evidence(record))) == ["falsely failed"]


def test_a_page_whose_site_fails_may_fail() -> None:
    record = Record(URL, "FAILED_PERMANENT", error_kind="http_status")
    assert judged(evidence(record), failing=frozenset({URL})).is_clean


def test_content_from_before_the_last_accepted_post_is_stale() -> None:
    posts = (a_post(1), a_post(3, "r2", fault="clocks"))
    (finding,) = judged(evidence(COMPLETED), posts=posts).findings
    assert (finding.kind, finding.fault) == ("stale", "clocks")


def test_a_refused_post_asks_for_no_newer_content() -> None:
    assert judged(evidence(COMPLETED), posts=(a_post(1), a_post(3, status=503))).is_clean


def test_content_of_an_unknown_hit_is_stale() -> None:
    assert kinds(judged(evidence(Record(URL, "COMPLETED")))) == ["stale"]


@pytest.mark.parametrize("later", [a_get(4, hit=1), a_get(4, None, status=202)])
def test_a_get_that_shows_less_than_an_earlier_one_is_stale(later: Get) -> None:
    shown, hits = evidence(Record(URL, "COMPLETED", hit=2)), (a_hit(1, 2), a_hit(2, 2.5))
    assert kinds(judged(shown, gets=(a_get(3, hit=2), later), hits=hits)) == ["stale"]


def test_gets_under_way_at_the_same_time_may_be_answered_in_any_order() -> None:
    shown, hits = evidence(Record(URL, "COMPLETED", hit=2)), (a_hit(1, 2), a_hit(2, 2.5))
    slow = Get(URL, sent=3, answered=5, status=200, hit=1)
    assert judged(shown, gets=(a_get(4, hit=2), slow), hits=hits).is_clean


def test_dead_letters_are_the_malformed_messages_and_no_others() -> None:
    malformed = evidence(COMPLETED, dead_letters=[b"{", b"{"])
    assert judged(malformed, malformed=(b"{",)).is_clean
    assert kinds(judged(malformed)) == ["dead"]
    assert kinds(judged(evidence(COMPLETED), malformed=(b"{",))) == ["dead"]


def test_fetches_beyond_one_for_each_request_are_counted_and_allowed() -> None:
    hits = (a_hit(1, 2), a_hit(2, 3), a_hit(3, 4, status=503))
    report = judged(evidence(COMPLETED), hits=hits)
    assert report.is_clean
    assert report.fetched_twice == {"none": 1}


def test_the_table_has_a_row_for_each_fault_and_a_sum() -> None:
    posts = (a_post(1, fault="worker killed"), a_post(3, "r2", fault="broker killed"))
    text = str(judged(evidence(COMPLETED), posts=posts)).splitlines()
    rows = [line.split() for line in text if line.strip().startswith(("worker", "broker", "all"))]
    assert [row[-9:] for row in rows] == [
        ["1", "0", "0", "0", "1", "0", "0", "0", "0"],
        ["1", "0", "0", "0", "0", "0", "0", "0", "0"],
        ["2", "0", "0", "0", "1", "0", "0", "0", "0"],
    ]


# --- Events ---

TOLD = Record(URL, "COMPLETED", hit=1, outcomes=1)
EVENT = Heard("e1", URL, b"{}", is_stored=True)
OUTCOME = StoredOutcome(URL, "e1")


def test_an_outcome_whose_event_was_heard_is_fine() -> None:
    assert judged(evidence(TOLD, outcomes=[OUTCOME], heard=[EVENT])).is_clean


def test_a_copy_of_an_event_is_fine() -> None:
    assert judged(evidence(TOLD, outcomes=[OUTCOME], heard=[EVENT, EVENT])).is_clean


def test_nothing_is_said_of_events_if_nobody_has_listened() -> None:
    assert judged(evidence(TOLD, outcomes=[OUTCOME], heard=None)).is_clean


@pytest.mark.parametrize("outcome", [OUTCOME, StoredOutcome(URL, None)])
def test_an_outcome_that_nobody_has_heard_of_is_untold(outcome: StoredOutcome) -> None:
    found = kinds(judged(evidence(TOLD, outcomes=[outcome], heard=[])))
    assert found == ["untold", "untold"]


def test_an_early_outcome_that_the_record_does_not_keep_is_counted_all_the_same() -> None:
    twice = replace(TOLD, outcomes=2)
    assert kinds(judged(evidence(twice, outcomes=[OUTCOME], heard=[EVENT]))) == ["untold"]


def test_an_event_without_an_outcome_is_mistold() -> None:
    ghost = replace(EVENT, event_id="e2")
    found = kinds(judged(evidence(TOLD, outcomes=[OUTCOME], heard=[EVENT, ghost])))
    assert found == ["mistold"]


def test_an_event_that_came_before_its_outcome_was_stored_is_mistold() -> None:
    early = replace(EVENT, is_stored=False)
    assert kinds(judged(evidence(TOLD, outcomes=[OUTCOME], heard=[early]))) == ["mistold"]


def test_two_copies_of_an_event_that_differ_are_mistold() -> None:
    other = replace(EVENT, body=b"[]")
    found = kinds(judged(evidence(TOLD, outcomes=[OUTCOME], heard=[EVENT, other])))
    assert found == ["mistold"]
