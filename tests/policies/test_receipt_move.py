"""What a receipt means: moves that the contract knows, whatever the order and however often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.notification import MOVES, Status
from clarion.domain.receipt import CallPlace, Receipt
from clarion.policies.receipt import call_of, is_latest, moved

NEWS = (Status.SENT, Status.DELIVERED, Status.UNDELIVERED, None)
statuses = st.sampled_from(Status)
news = st.sampled_from(NEWS)


def receipt(status=None, provider="alpha", **fields):
    return Receipt("n", provider, "told", "key", 0.0, status, **fields)


@given(statuses, news, st.booleans())
def test_a_receipt_makes_no_move_that_the_contract_does_not_know(status, told, is_latest_call):
    """Final stays final, with the exceptions of the contract."""
    new = moved(status, receipt(told), is_latest_call=is_latest_call)

    assert new is None or new in MOVES[status]


@given(statuses, st.lists(st.tuples(news, st.booleans()), max_size=6))
def test_what_was_received_twice_leads_to_the_same_end(status, told):
    """The second time changes nothing, wherever the first time led."""

    def end(words):
        now = status
        for word, is_latest_call in words:
            now = moved(now, receipt(word), is_latest_call=is_latest_call) or now
        return now

    assert end([*told, *told]) == end(told)


@given(statuses, st.permutations([Status.SENT, Status.DELIVERED, None]))
def test_good_news_leads_to_the_same_end_in_any_order(status, told):
    """Delivered before processed is delivered."""
    now = status
    for word in told:
        now = moved(now, receipt(word), is_latest_call=False) or now

    live_or_open = {Status.QUEUED, Status.SENDING, Status.UNKNOWN, Status.SENT}
    assert now is (Status.DELIVERED if status in live_or_open else status)


@given(statuses)
def test_bad_news_of_an_earlier_call_changes_nothing(status):
    """A later call may have fared better, whatever it has come to by now."""
    assert moved(status, receipt(Status.UNDELIVERED), is_latest_call=False) is None


CALLS = (
    CallPlace(1, "alpha", "id-1"), CallPlace(2, "alpha"), CallPlace(3, "beta", "id-3"),
    CallPlace(4, "alpha", "id-4"),
)  # fmt: skip


def test_a_call_is_found_by_number_then_by_id_then_by_what_is_missing():
    """The provider's latest call without an id is the one whose answer got lost."""
    assert call_of(receipt(call=3, provider_message_id="id-1"), CALLS) == 3
    assert call_of(receipt(provider_message_id="id-1"), CALLS) == 1
    assert call_of(receipt(provider_message_id="other"), CALLS) == 2
    assert call_of(receipt(), CALLS) == 2
    assert call_of(receipt(), CALLS[:1]) == 1
    assert call_of(receipt(provider="beta", provider_message_id="id-1"), CALLS) == 3
    assert call_of(receipt(provider="gamma"), CALLS) == 0


def test_the_latest_call_is_the_last_of_all_while_live_and_of_its_provider_after():
    """An ended one owes its status to one provider; a live one to whoever comes last."""
    third = receipt(provider="beta", call=3)
    fourth = receipt(call=4)

    assert not is_latest(third, CALLS, is_live=True, provider=None)
    assert is_latest(fourth, CALLS, is_live=True, provider=None)
    assert is_latest(third, CALLS, is_live=False, provider="beta")
    assert not is_latest(fourth, CALLS, is_live=False, provider="beta")
    assert not is_latest(receipt(call=1), CALLS, is_live=False, provider="alpha")
    # Of a notification that its own receipt ended, the call may not be noted yet.
    assert is_latest(receipt(call=1), (), is_live=False, provider="alpha")
