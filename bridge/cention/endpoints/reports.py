"""Errand reports and the list of errands that have changed."""

from collections.abc import Iterable

from bridge.cention.documents import DIRTY_ERRANDS, ERRAND_REPORTS, DirtyErrands, ErrandReport, request_body
from bridge.cention.endpoints.base import Endpoint, with_query
from bridge.cention.outcome import Failure, Fetched, Outcome
from bridge.cention.walk import DirtyWalk


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
        sparse = {f"fields[{ERRAND_REPORTS}]": ",".join(fields) or None}
        url = with_query(self._url(ERRAND_REPORTS, errand_id), sparse)
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

    def walk_dirty(self, token: str, *, fields: Iterable[str] = ()) -> DirtyWalk:
        """The errands that have changed, one after the other with its report, and those again on the list that failed.

            async with cention.walk_dirty(token) as changed:
                async for errand_id, report in changed:
                    if not await keep(report):
                        changed.again(errand_id)

        What is in hand when the block is left by an exception is marked too.

        Args:
            token: one with the claim "Access to errand data".
            fields: as for `errand_report`.

        Source: Cention API, "Errand Reports", "Dirty Errand List".
        """
        wanted = tuple(fields)
        return DirtyWalk(
            lambda: self.dirty_errands(token),
            lambda errand_id: self.errand_report(errand_id, token, fields=wanted),
            lambda errand_ids: self.mark_dirty(errand_ids, token),
        )
