"""What documents do to the sandbox's errands and agents, and that all of it stays bounded."""

from typing import Any

import pytest

from bridge.cention.documents import Answer, EndErrand, EndObcall, IntegrationData, Message, NewErrand, WhatsAppTemplate
from bridge.cention.sandbox.state import FIRST_ERRAND_ID, Errand, GivenAnswer, State


def state(errands_max: int = 100, arrivals_max: int = 100) -> State:
    return State(errands_max=errands_max, arrivals_max=arrivals_max)


def call(
    to: State, reference: str | None, *, end: bool = False, device: int = 1000, dest: str = "46846500400", **more: Any
) -> Errand:
    data = IntegrationData(
        integration_name="aventa",
        reference_id=reference,
        device_id=device,
        extension_id=1,
        dest_number=dest,
        queue_name="Support",
        queue_number="7",
        end_session=end,
        link=more.pop("link", None),
    )
    document = NewErrand(msg=Message(message_id=f"{reference}-{end}"), integration_data=data, **more)
    return to.new_errand(document, document.to_json(), cut=False)


def end_obcall(to: State, dialed: str | None, device: int = 1000) -> Errand | None:
    end = EndObcall(integration_name="aventa", dialed_number=dialed, device_id=device, extension_id=1)
    return to.end_obcall(end, cut=False)


def busy(of: State, device: int = 1000) -> list[int]:
    return [errand.errand_id for errand in of.busy_with((device, 1))]


def test_a_call_makes_its_agent_busy_until_it_ends() -> None:
    one = state()
    errand = call(one, "c-1")
    assert (errand.errand_id, errand.state, busy(one)) == (FIRST_ERRAND_ID, "open", [FIRST_ERRAND_ID])
    same = call(one, "c-1", end=True, link="https://recordings.example/1")
    assert same is errand
    assert (errand.state, errand.ended_by, errand.link) == ("ended", "c3_new_errands", "https://recordings.example/1")
    assert errand.message_ids == ["c-1-False", "c-1-True"]
    assert busy(one) == []


def test_an_end_again_reaches_the_same_errand() -> None:
    one = state()
    first = call(one, "c-1")
    call(one, "c-1", end=True)
    ended_at = first.ended_at
    assert call(one, "c-1", end=True, link="https://late.example") is first
    assert (first.ended_at, first.link, len(list(one.errands()))) == (ended_at, "https://late.example", 1)


@pytest.mark.parametrize(("reference", "device"), [("c-2", 1000), ("c-1", 1001), (None, 1000)])
def test_an_end_of_another_call_makes_an_ended_errand(reference: str | None, device: int) -> None:
    one = state()
    first = call(one, "c-1")
    other = call(one, reference, end=True, device=device)
    assert other is not first
    assert (other.state, first.state) == ("ended", "open")
    assert busy(one) == [first.errand_id]
    assert busy(one, 1001) == []


def test_a_create_again_makes_a_second_errand() -> None:
    one = state()
    first, second = call(one, "c-1"), call(one, "c-1")
    assert second.errand_id == first.errand_id + 1
    assert call(one, "c-1", end=True) is second
    assert busy(one) == [first.errand_id]


def test_an_answer_closes_at_once_but_a_template_needs_one() -> None:
    one = state()
    answer = Answer(user_type="cention", user_id="1")
    assert call(one, "c-1", answer=answer).state == "ended"
    assert call(one, "c-2", answer=answer, watemplate=WhatsAppTemplate(elementname="e")).state == "open"


def test_an_errand_without_integration_has_no_agent() -> None:
    one = state()
    errand = one.new_errand(NewErrand(), b'{"data":{"attributes":{}}}', cut=True)
    assert (errand.pair, one.agents()) == (None, [])
    assert one.arrivals()[0].cut


def test_an_errand_is_closed_by_its_id() -> None:
    one = state()
    errand = call(one, "c-1")
    assert one.end_errand(EndErrand(errand_id=errand.errand_id), b"{}", cut=False) is errand
    assert (errand.ended_by, errand.end_document, busy(one)) == ("c3_end_errands", b"{}", [])
    assert one.end_errand(EndErrand(errand_id=1), b"{}", cut=False) is None
    assert [(a.status, a.reference_id, a.errand_id) for a in one.arrivals()][1:] == [
        (201, "c-1", errand.errand_id),
        (404, None, None),
    ]


@pytest.mark.parametrize("dialed", ["0701740605", "+46 70-174 06 05", "0046701740605", "*31#0701740605", "46701740605"])
def test_an_outbound_end_finds_the_call_by_the_end_of_its_number(dialed: str) -> None:
    one = state()
    outbound = call(one, "out", dest="46701740605")
    inbound = call(one, "in")
    assert end_obcall(one, dialed) is outbound
    assert (outbound.ended_by, busy(one)) == ("c3_end_obcall", [inbound.errand_id])


def test_an_outbound_end_without_a_number_ends_the_newest() -> None:
    one = state()
    first, second = call(one, "a"), call(one, "b")
    assert end_obcall(one, None) is second
    assert busy(one) == [first.errand_id]


def test_an_outbound_end_that_fits_nothing_is_recorded() -> None:
    one = state()
    errand = call(one, "in")
    assert end_obcall(one, "1234") is None
    assert end_obcall(one, "", device=1001) is None
    assert errand.state == "open"
    last = one.arrivals()[-1]
    assert (last.endpoint, last.dialed_number, last.device_id, last.errand_id) == ("c3_end_obcall", "", 1001, None)
    assert [(pair[0], agent.outbound_ends) for pair, agent in one.agents()] == [(1000, 1), (1001, 1)]


def test_what_ended_first_is_dropped_first() -> None:
    one = state(errands_max=3)
    errands = [call(one, f"c-{number}") for number in range(3)]
    for number in (1, 0):
        call(one, f"c-{number}", end=True)
    call(one, "c-3")
    assert [e.reference_id for e in one.errands()] == ["c-3", "c-2", "c-0"]
    call(one, "c-4")
    call(one, "c-5")  # none has ended now: the oldest goes
    assert [e.reference_id for e in one.errands()] == ["c-5", "c-4", "c-3"]
    assert errands[2].errand_id not in busy(one)
    assert call(one, "c-2", end=True).errand_id not in {e.errand_id for e in errands}


def test_everything_is_bounded() -> None:
    one = state(errands_max=10, arrivals_max=7)
    for number in range(300):
        call(one, f"c-{number}", device=number)
        call(one, f"c-{number // 2}", device=number // 2, end=True)
        end_obcall(one, "1", device=1000 + number)
    counts = one.counts
    assert counts["errands"] <= 10
    assert counts["agents"] <= 10
    assert counts["arrivals"] == 900
    assert [a.sequence for a in one.arrivals()] == list(range(894, 901))
    assert len(one._references) <= 10
    one.reset()
    for _ in range(300):
        errand = call(one, "again", end=True)
    assert len(errand.message_ids) == 100


def test_documents_are_bounded_in_bytes() -> None:
    one = state(errands_max=1000)
    for number in range(100):
        one.new_errand(NewErrand(cuid=str(number)), b"x" * 2**20, cut=False)
    assert one.counts["errands"] == 64


def test_answers_are_bounded_in_bytes_with_the_documents() -> None:
    one = state(errands_max=1000)
    for number in range(100):
        errand = call(one, f"c-{number}")
        given = GivenAnswer(number, number, 1, "Eva Ek", "", "x" * 2**20, "")
        assert one.answer(errand.errand_id, given) is errand
    assert 60 < one.counts["errands"] < 64
    assert one.answer(1, given) is None


def test_an_answer_ends_an_errand_once_and_frees_its_agent() -> None:
    one = state()
    errand = call(one, "c-1")
    one.read_report(errand.errand_id)
    one.answer(errand.errand_id, GivenAnswer(1, 1, 1, "Eva Ek", "", "Done", ""))
    assert (errand.ended_by, busy(one), one.dirty()) == ("answer", [], [errand.errand_id])
    call(one, "c-1", end=True, link="https://recordings.example/1")
    assert (errand.ended_by, errand.link) == ("answer", "https://recordings.example/1")


def test_arrivals_by_their_numbers() -> None:
    one = state(arrivals_max=5)
    for number in range(8):
        call(one, f"c-{number}")
    assert [a.sequence for a in one.arrivals()] == [4, 5, 6, 7, 8]
    assert [a.sequence for a in one.arrivals(since=5)] == [6, 7, 8]
    assert [a.sequence for a in one.arrivals(since=1, limit=2)] == [4, 5]
    assert one.arrivals(since=8) == []
    assert one.arrivals(since=1000) == []


def test_a_reset_forgets_but_never_counts_back() -> None:
    one = state()
    call(one, "c-1")
    one.reset()
    assert one.counts == {"errands": 0, "open": 0, "agents": 0, "dirty": 0, "arrivals": 1, "reports": 0}
    assert call(one, "c-1", end=True).errand_id == FIRST_ERRAND_ID + 1
    assert one.arrivals()[0].sequence == 2


@pytest.mark.parametrize("bounds", [(0, 1), (1, 0)])
def test_bounds_below_one_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        state(*bounds)
