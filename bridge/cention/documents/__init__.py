"""Cention's JSON:API documents as pydantic models: what is sent, and what is read.

Owns the wire: member names, JSON types, which members are mandatory. Knows no HTTP and no call: the pipeline fills
these in. One module per part of the API; what they share is in `base`.
"""

from bridge.cention.documents.answers import CreatedErrand, created_errand_id
from bridge.cention.documents.base import (
    MEDIA_TYPE,
    Answered,
    Attributes,
    Document,
    Envelope,
    Found,
    Resource,
    read_answer,
    read_document,
    request_body,
)
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
from bridge.cention.documents.reports import (
    DIRTY_ERRANDS,
    ERRAND_REPORTS,
    DirtyErrands,
    ErrandAction,
    ErrandBasic,
    ErrandData,
    ErrandExtended,
    ErrandReport,
    ErrandSla,
    ErrandTag,
)

__all__ = [
    "DIRTY_ERRANDS",
    "END_ERRANDS",
    "END_OBCALL",
    "ERRAND_REPORTS",
    "MEDIA_TYPE",
    "NEW_ERRANDS",
    "Answer",
    "Answered",
    "Attachment",
    "Attributes",
    "CreatedErrand",
    "DirtyErrands",
    "Document",
    "EndErrand",
    "EndObcall",
    "Envelope",
    "ErrandAction",
    "ErrandBasic",
    "ErrandData",
    "ErrandExtended",
    "ErrandReport",
    "ErrandSla",
    "ErrandTag",
    "ExtraData",
    "Found",
    "IntegrationData",
    "Message",
    "NewErrand",
    "Resource",
    "WhatsAppTemplate",
    "created_errand_id",
    "read_answer",
    "read_document",
    "request_body",
]
