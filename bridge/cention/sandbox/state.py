"""What the sandbox remembers: errands, which agent is busy with what, and every request in its order of arrival.

Owns what the documents do to errands. Knows no HTTP. One event loop uses it, and no method awaits: each is atomic.

Invariants:
- Bounded: at most `errands_max` errands and `_DOCUMENT_BYTES_MAX` of documents; the errand that ended first is dropped
  first, and the oldest one when none has ended. At most `arrivals_max` arrivals; the oldest is dropped first.
- Errand ids and arrival numbers count up and are never given twice, not even after a reset.
- An errand is dirty from when it is made or changed until its report is read; whoever likes marks it again.
- An agent is busy with exactly its open errands that came with `integrationData`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from bridge.cention.documents import (
    CONTACT_CARDS,
    END_ERRANDS,
    END_OBCALL,
    NEW_ERRANDS,
    EndErrand,
    EndObcall,
    IntegrationData,
    NewErrand,
)
from bridge.cention.sandbox.records import Agent, Arrival, Errand, GivenAnswer, Pair
from bridge.runtime.clock import now_ms

__all__ = ["ANSWER", "FIRST_ERRAND_ID", "Agent", "Arrival", "Errand", "GivenAnswer", "Pair", "State"]

ANSWER = "answer"
"""`Errand.ended_by` where its agent's answer ended it."""
FIRST_ERRAND_ID = 511055
"""The id in the documentation's sample."""

_DOCUMENT_BYTES_MAX = 64 * 2**20
_MESSAGE_IDS_MAX = 100  # of one errand: a program that repeats itself must not grow it without end
_COMPARED_DIGITS = 6

Reference = tuple[str, int, int]


class State:
    """See the module's docstring."""

    def __init__(self, *, errands_max: int, arrivals_max: int) -> None:
        if errands_max < 1 or arrivals_max < 1:
            raise ValueError("errands_max and arrivals_max must be at least 1")
        self._errands_max = errands_max
        self._errands: dict[int, Errand] = {}
        self._ended: dict[int, None] = {}  # in the order of their ends
        self._references: dict[Reference, int] = {}
        self._agents: dict[Pair, Agent] = {}
        self._dirty: dict[int, None] = {}  # in the order in which they became so
        self._reports = 0
        self._arrivals: deque[Arrival] = deque(maxlen=arrivals_max)
        self._bytes = 0
        self._next_id = FIRST_ERRAND_ID
        self._sequence = 0

    def reset(self) -> None:
        """Forgets errands, agents and arrivals."""
        for kept in (self._errands, self._ended, self._references, self._agents, self._arrivals, self._dirty):
            kept.clear()
        self._bytes = 0

    # What the endpoints do.

    def new_errand(self, new: NewErrand, document: bytes, *, cut: bool) -> Errand:
        """Creates an errand; or, with `endSession` true for a call that has one, ends that errand."""
        data = new.integration_data
        known = self._known(data) if data is not None and data.end_session else None
        errand = known or self._create(data, document)
        errand.updated_at = now_ms()
        self._dirty[errand.errand_id] = None
        if data is not None and data.link:
            errand.link = data.link
        if new.msg is not None and new.msg.message_id is not None:
            errand.message_ids[:] = [*errand.message_ids[1 - _MESSAGE_IDS_MAX :], new.msg.message_id]
        if (data is not None and data.end_session) or (new.answer is not None and new.watemplate is None):
            self._end(errand, NEW_ERRANDS, document if known else None)
        self._arrived(
            NEW_ERRANDS,
            cut=cut,
            errand=errand,
            message_id=new.msg.message_id if new.msg is not None else None,
            end_session=data.end_session if data is not None else None,
        )
        self._drop_what_is_too_much()
        return errand

    def end_errand(self, end: EndErrand, document: bytes, *, cut: bool) -> Errand | None:
        """Closes an errand and returns it, or None where there is none with that id."""
        errand = self._errands.get(end.errand_id)
        if errand is not None:
            self._end(errand, END_ERRANDS, document)
        self._arrived(END_ERRANDS, cut=cut, errand=errand, status=404 if errand is None else 201)
        return errand

    def end_obcall(self, end: EndObcall, *, cut: bool) -> Errand | None:
        """Ends the agent's newest open errand for the dialled number (for any, where none is told), if it has one."""
        pair = (end.device_id, end.extension_id)
        agent = self._agent(pair)
        agent.outbound_ends += 1
        busy_with = (self._errands[errand_id] for errand_id in reversed(agent.busy_with))
        errand = next((e for e in busy_with if _same_number(end.dialed_number, e.dest_number)), None)
        if errand is not None:
            self._end(errand, END_OBCALL, None)
        self._arrived(END_OBCALL, cut=cut, errand=errand, pair=pair, dialed_number=end.dialed_number, status=204)
        self._drop_what_is_too_much()
        return errand

    def answer(self, errand_id: int, given: GivenAnswer) -> Errand | None:
        """Answers an errand, which closes it; None where there is none with that id."""
        errand = self._errands.get(errand_id)
        if errand is not None:
            self._bytes -= errand.size
            errand.answer = given
            self._bytes += errand.size
            self._end(errand, ANSWER, None)
            self._drop_what_is_too_much()
        return errand

    def contact_card(self, *, cut: bool) -> None:
        """Records that a contact card arrived; what it holds is kept elsewhere."""
        self._arrived(CONTACT_CARDS, cut=cut, errand=None)

    def read_report(self, errand_id: int) -> tuple[Errand, bool] | None:
        """The errand and whether it was dirty, which it is no longer; None where there is none with that id."""
        errand = self._errands.get(errand_id)
        if errand is None:
            return None
        self._reports += 1
        was_dirty = errand_id in self._dirty
        self._dirty.pop(errand_id, None)
        return errand, was_dirty

    def mark_dirty(self, errand_ids: Iterable[int]) -> None:
        """Lets errands count as changed; ids that are not known are passed over."""
        self._dirty.update(dict.fromkeys(i for i in errand_ids if i in self._errands))

    # What views and tests read.

    def dirty(self) -> list[int]:
        """The ids of the errands that have changed, the longest changed first."""
        return list(self._dirty)

    def errand(self, errand_id: int) -> Errand | None:
        return self._errands.get(errand_id)

    def errands(self) -> Iterator[Errand]:
        """All errands, newest first."""
        return reversed(self._errands.values())

    def agents(self) -> list[tuple[Pair, Agent]]:
        """All agents that were ever heard of and are still kept, the longest unheard first."""
        return list(self._agents.items())

    def busy_with(self, pair: Pair) -> list[Errand]:
        """The open errands of one agent, oldest first."""
        agent = self._agents.get(pair)
        return [] if agent is None else [self._errands[errand_id] for errand_id in agent.busy_with]

    def arrivals(self, since: int = 0, limit: int | None = None) -> list[Arrival]:
        """At most `limit` arrivals whose number is above `since`, oldest first."""
        first = self._arrivals[0].sequence if self._arrivals else 1
        start = max(0, since + 1 - first)
        return list(islice(self._arrivals, start, None if limit is None else start + limit))

    @property
    def counts(self) -> dict[str, int]:
        """How many of each are kept, and how many requests were ever worked on and reports ever read."""
        return {
            "errands": len(self._errands),
            "open": len(self._errands) - len(self._ended),
            "agents": len(self._agents),
            "dirty": len(self._dirty),
            "arrivals": self._sequence,
            "reports": self._reports,
        }

    # How it is kept.

    def _known(self, data: IntegrationData) -> Errand | None:
        if data.reference_id is None:
            return None
        errand_id = self._references.get((data.reference_id, data.device_id, data.extension_id))
        return None if errand_id is None else self._errands[errand_id]

    def _create(self, data: IntegrationData | None, document: bytes) -> Errand:
        at = now_ms()
        errand = Errand(self._next_id, at, at, document)
        self._next_id += 1
        self._errands[errand.errand_id] = errand
        self._bytes += errand.size
        if data is not None:
            errand.pair = (data.device_id, data.extension_id)
            errand.reference_id, errand.dest_number = data.reference_id, data.dest_number
            self._agent(errand.pair).busy_with.append(errand.errand_id)
            if data.reference_id is not None:
                self._references[(data.reference_id, *errand.pair)] = errand.errand_id
        return errand

    def _end(self, errand: Errand, endpoint: str, document: bytes | None) -> None:
        errand.updated_at = now_ms()
        self._dirty[errand.errand_id] = None
        if document is not None:
            self._bytes -= errand.size
            errand.end_document = document
            self._bytes += errand.size
        if errand.ended_at is None:
            errand.ended_at, errand.ended_by = errand.updated_at, endpoint
            self._ended[errand.errand_id] = None
            self._free(errand)

    def _agent(self, pair: Pair) -> Agent:
        agent = self._agents.pop(pair, None) or Agent()
        self._agents[pair] = agent  # now the last: the one heard of most recently
        agent.updated_at = now_ms()
        return agent

    def _free(self, errand: Errand) -> None:
        if errand.pair is not None and errand.errand_id in self._agents[errand.pair].busy_with:
            self._agent(errand.pair).busy_with.remove(errand.errand_id)

    def _drop_what_is_too_much(self) -> None:
        while len(self._errands) > self._errands_max or (self._bytes > _DOCUMENT_BYTES_MAX and len(self._errands) > 1):
            errand = self._errands.pop(next(iter(self._ended or self._errands)))
            self._bytes -= errand.size
            self._dirty.pop(errand.errand_id, None)
            if errand.ended_at is None:
                self._free(errand)
            else:
                del self._ended[errand.errand_id]
            if errand.pair is not None and errand.reference_id is not None:
                reference = (errand.reference_id, *errand.pair)
                if self._references.get(reference) == errand.errand_id:
                    del self._references[reference]
        while len(self._agents) > self._errands_max:
            # One with open errands is never the one: each of those is among at most `errands_max` errands.
            idle = next((pair for pair, agent in self._agents.items() if not agent.busy_with), None)
            if idle is None:
                break
            del self._agents[idle]

    def _arrived(
        self,
        endpoint: str,
        *,
        cut: bool,
        errand: Errand | None,
        status: int = 201,
        pair: Pair | None = None,
        message_id: str | None = None,
        end_session: bool | None = None,
        dialed_number: str | None = None,
    ) -> None:
        self._sequence += 1
        pair = pair or (errand.pair if errand is not None else None)
        self._arrivals.append(
            Arrival(
                sequence=self._sequence,
                at=now_ms(),
                endpoint=endpoint,
                status=status,
                cut=cut,
                message_id=message_id,
                reference_id=errand.reference_id if errand is not None else None,
                device_id=pair[0] if pair is not None else None,
                extension_id=pair[1] if pair is not None else None,
                end_session=end_session,
                dialed_number=dialed_number,
                errand_id=errand.errand_id if errand is not None else None,
            )
        )


def _same_number(dialed: str | None, dest: str | None) -> bool:
    """Whether a number as dialled can be the MSISDN `dest`; a number that was not told can be any.

    Prefixes (trunk zeros, `00`, `*31#`) stand before a number, so its end is what is compared.
    """
    if dialed is None or dest is None:
        return True
    digits = "".join(c for c in dialed if c in "0123456789").lstrip("0")
    length = min(_COMPARED_DIGITS, len(digits), len(dest))
    return length > 0 and digits[-length:] == dest[-length:]
