"""What is given to a sandbox by those who run it, as against Cention's documents: the base of its models. Pure."""

import base64
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Given(BaseModel):
    """The base of whatever is given: a member that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("must be base64") from None
    return text


Base64 = Annotated[str, AfterValidator(_base64)]
"""A file's content (RFC 4648 section 4)."""
