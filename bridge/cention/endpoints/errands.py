"""Creating and closing errands, and ending outbound calls. Each call is one attempt and returns its `Outcome`."""

from bridge.cention.documents import END_ERRANDS, END_OBCALL, NEW_ERRANDS, EndErrand, EndObcall, NewErrand, request_body
from bridge.cention.endpoints.base import Endpoint
from bridge.cention.outcome import Outcome


class Errands(Endpoint):
    """The endpoints whose token carries the claim "Create Errand"; each such token is bound to one area."""

    _obcall_type: str

    async def new_errand(self, document: NewErrand | bytes, token: str, *, timeout_s: float | None = None) -> Outcome:
        """POST `c3_new_errands`; `Delivered` carries the new errand's id.

        Args:
            document: the errand, or its JSON.
            token: one with the claim "Create Errand", bound to the area that the errand goes to.
            timeout_s: seconds in place of the client's `attempt_timeout_s`, for large attachments on a slow line.

        Source: Cention API, "Create Errand".
        """
        body = request_body(NEW_ERRANDS, document)
        return await self._transport.post(self._url(NEW_ERRANDS), body, token, creates=True, timeout_s=timeout_s)

    async def end_errand(self, document: EndErrand, token: str) -> Outcome:
        """POST `c3_end_errands`.

        Source: Cention API, "Close Errand".
        """
        body = request_body(END_ERRANDS, document)
        return await self._transport.post(self._url(END_ERRANDS), body, token, creates=False)

    async def end_obcall(self, document: EndObcall, token: str) -> Outcome:
        """POST `c3_end_obcall`.

        Source: Cention API, "End Outbound Call".
        """
        body = request_body(self._obcall_type, document)
        return await self._transport.post(self._url(END_OBCALL), body, token, creates=False)
