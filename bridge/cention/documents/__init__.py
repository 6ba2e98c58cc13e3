"""Cention's JSON:API documents as pydantic models: what is sent, and what is read.

Owns the wire: member names, JSON types, which members are mandatory. Knows no HTTP and no call: the pipeline fills
these in. One module per part of the API; what they share is in `base`.
"""

from bridge.cention.documents.answers import CreatedErrand, created_errand_id
from bridge.cention.documents.base import MEDIA_TYPE, Attributes, Envelope, Resource, read_document, request_body
from bridge.cention.documents.errands import (
    END_ERRANDS,
    END_OBCALL,
    NEW_ERRANDS,
    Answer,
    Attachment,
    EndErrand,
    EndObcall,
    ExtraData,
    IntegrationData,
    Message,
    NewErrand,
    WhatsAppTemplate,
)

__all__ = [
    "END_ERRANDS",
    "END_OBCALL",
    "MEDIA_TYPE",
    "NEW_ERRANDS",
    "Answer",
    "Attachment",
    "Attributes",
    "CreatedErrand",
    "EndErrand",
    "EndObcall",
    "Envelope",
    "ExtraData",
    "IntegrationData",
    "Message",
    "NewErrand",
    "Resource",
    "WhatsAppTemplate",
    "created_errand_id",
    "read_document",
    "request_body",
]
