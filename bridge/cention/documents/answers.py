"""What the server answers: the document of a create. Read leniently, since the work is done by the time it is read.

Source: Cention API, "Create Errand", "HTTP request return body".
"""

import orjson
from pydantic import ValidationError

from bridge.cention.documents.base import Document


class CreatedResource(Document):
    """The resource that a create made."""

    type: str | None = None
    id: str | int
    """A JSON string. A number is taken too: refusing it would lose the id of an errand that exists."""


class CreatedErrand(Document):
    """`{"data": {"type": "c3_new_errands", "id": "511055"}}`."""

    data: CreatedResource


def created_errand_id(body: bytes) -> str | None:
    """The id in the answer to a create, or None where the body is empty, cut off or something else."""
    try:
        found = orjson.loads(body)["data"]["id"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        found = None
    if isinstance(found, str):  # as documented, and a third of the model's time
        return found or None
    try:
        return str(CreatedErrand.model_validate_json(body).data.id) or None
    except ValidationError:
        return None
