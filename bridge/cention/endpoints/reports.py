"""Errand reports and the list of errands that have changed."""

from collections.abc import Iterable
from urllib.parse import quote

from bridge.cention.documents import DIRTY_ERRANDS, ERRAND_REPORTS, DirtyErrands, ErrandReport, request_body
from bridge.cention.endpoints.base import Endpoint
from bridge.cention.outcome import Failure, Fetched, Outcome


class Reports(Endpoint):
    """The endpoints whose token carries the claim "Access to errand data"."""

    async def errand_report(
        self, errand_id: int, token: str, *, fields: Iterable[str] = ()
    ) -> Fetched[ErrandReport] | Failure:
        """GET `c3_errand_reports/<id>`. Not without a trace: it clears the errand's dirty flag.

        Args:
            errand_id: the errand's database id.
            token: one with the claim "Access to errand data".
            fields: the attributes to ask for, such as `sla`; none asks for all.

        Source: Cention API, "Errand Reports"; JSON:API 1.0, "Sparse Fieldsets".
        """
        url = f"{self._url(ERRAND_REPORTS)}/{errand_id}"
        if names := ",".join(fields):
            # The brackets percent-encoded, as the documentation's example has them.
            url += f"?{quote(f'fields[{ERRAND_REPORTS}]', safe='')}={quote(names, safe=',')}"
        read = await self._read(url, token, ErrandReport)
        if isinstance(read, Fetched):
            return Fetched(read.value or ErrandReport(), read.status)
        return read

    async def dirty_errands(self, token: str) -> Fetched[tuple[int, ...]] | Failure:
        """GET `c3_dirty_errand_list`: the ids of the errands that have changed, in the server's order.

        Source: Cention API, "Dirty Errand List".
        """
        read = await self._read(self._url(DIRTY_ERRANDS), token, DirtyErrands)
        if isinstance(read, Fetched):
            return Fetched((read.value and read.value.errands) or (), read.status)
        return read

    async def mark_dirty(self, errand_ids: Iterable[int], token: str) -> Outcome:
        """POST `c3_dirty_errand_list`: lets errands count as changed, so that whoever asks for the list next sees them.

        Source: Cention API, "Dirty Errand List".
        """
        body = request_body(DIRTY_ERRANDS, DirtyErrands(errands=tuple(errand_ids)))
        return await self._transport.post(self._url(DIRTY_ERRANDS), body, token, creates=False)
