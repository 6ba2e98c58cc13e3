"""Exports."""

from datetime import date

from pydantic import ValidationError

from bridge.cention.answer import Answer
from bridge.cention.documents import TRIGGER_EXPORTS, Export, TriggerExport, export_request, read_one
from bridge.cention.endpoints.base import Endpoint, not_as_documented
from bridge.cention.outcome import Failure, Fetched
from bridge.cention.transport import OnProgress

EXPORT_TIMEOUT_S = 600.0
"""Seconds that an export may take: Cention searches a period's errands and writes out each before it answers, which has
nothing to do with how long a single errand may take."""
EXPORT_BYTES_MAX = 128 * 2**20
"""What is read of an export, in bytes: 20,000 errands with 6 KiB of question, answer and notes each. It is held in
memory twice, as text and as records."""


class Exports(Endpoint):
    """The endpoint whose token carries the claim "Access to export API"."""

    async def trigger_export(
        self,
        export_id: int | str,
        token: str,
        *,
        from_date: date | None = None,
        to_date: date | None = None,
        use_closure_date: bool | None = None,
        timeout_s: float = EXPORT_TIMEOUT_S,
        bytes_max: int = EXPORT_BYTES_MAX,
        on_progress: OnProgress | None = None,
    ) -> Fetched[Export] | Failure:
        """POST `c3_trigger_exports`: has a preset export made, and waits for it. `records` of what comes are errands.

        Args:
            export_id: the preset export's id, from Cention's own pages.
            token: one with the claim "Access to export API".
            from_date: the first day that is wanted; None leaves it to the preset.
            to_date: the last day that is wanted; likewise.
            use_closure_date: whether the days are those on which errands were closed, rather than came.
            timeout_s: seconds in place of the client's `attempt_timeout_s`.
            bytes_max: an answer of so many bytes or more is refused.
            on_progress: called while the answer arrives with the bytes that have come, and how many there will be where
                the server says so. Until the first byte comes, Cention is at work.

        Returns:
            An `Export` without records where the server says no more than that it took the request.

        Raises:
            ValueError: `from_date` is after `to_date`.

        Source: Cention API, "Trigger Export Generation".
        """
        if from_date is not None and to_date is not None and from_date > to_date:
            raise ValueError("from_date is after to_date")
        wanted = TriggerExport(use_closure_date=use_closure_date, errand_from_date=from_date, errand_to_date=to_date)
        answer = await self._transport.post_for(
            self._url(TRIGGER_EXPORTS),
            export_request(export_id, wanted),
            token,
            bytes_max=bytes_max,
            timeout_s=timeout_s,
            on_progress=on_progress,
        )
        if not isinstance(answer, Answer):
            return answer
        if not answer.body.strip():  # 202 and 204 carry none
            return Fetched(Export(), answer.status)
        try:
            export = read_one(answer.body, Export).data
        except ValidationError as error:
            return not_as_documented(answer.status, error)
        return Fetched(export or Export(), answer.status)
