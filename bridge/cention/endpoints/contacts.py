"""Contact cards."""

from pydantic import ValidationError

from bridge.cention.answer import Answer
from bridge.cention.documents import CONTACT_CARDS, ContactCard, read_answer, request_body
from bridge.cention.endpoints.base import Endpoint, not_as_documented
from bridge.cention.outcome import Failure, Fetched, Rejected


class ContactCards(Endpoint):
    """The endpoint whose token carries the claim "Access and create customer contacts"."""

    async def contact_card(self, card: ContactCard, token: str) -> Fetched[ContactCard] | Failure:
        """POST `c3_contact_cards`: makes a card, or appends to the one that has any of these addresses.

        Sending the same again changes nothing, so what failed may be sent again, `Unknown` too.

        Args:
            card: what to keep; `ContactCard.of` makes one.
            token: one with the claim "Access and create customer contacts".

        Returns:
            The card as it is kept now, with its `c3_id`; without members where the server says no more than that it
            took it. `Rejected` without a status, and nothing sent, where a `voice` number has no plus.

        Source: Cention API, "Contact Cards".
        """
        if faults := "; ".join(card.faults()):
            return Rejected(None, faults[:300])
        body = request_body(CONTACT_CARDS, card)
        answer = await self._transport.post_for(self._url(CONTACT_CARDS), body, token)
        if not isinstance(answer, Answer):
            return answer
        if not answer.body.strip():  # 202 and 204 carry none
            return Fetched(ContactCard(), answer.status)
        try:
            resource = read_answer(answer.body, ContactCard).data
        except ValidationError as error:
            return not_as_documented(answer.status, error)
        if resource is None:
            return Fetched(ContactCard(), answer.status)
        kept = resource.attributes or ContactCard()
        told = str(resource.id)
        if kept.c3_id is None and told.isascii() and told.isdigit():
            kept = kept.model_copy(update={"c3_id": int(told)})
        return Fetched(kept, answer.status)
