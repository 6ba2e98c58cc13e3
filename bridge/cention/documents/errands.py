"""Creating and closing errands, and ending outbound calls: the documents of the three endpoints.

Attribute names are Python's; each alias is the wire's own spelling. A docstring that quotes a type quotes it because
another document of the same API spells the same thing with another one.
"""

import asyncio
import base64
from typing import Self

from pydantic import Field, JsonValue

from bridge.cention.documents.attachments import FILE_BYTES_MAX
from bridge.cention.documents.base import Attributes, JsonInteger
from bridge.cention.documents.sources import (
    AsyncReadable,
    Source,
    base64_of,
    content_type_of,
    load_source,
    name_of,
    read_source,
)

NEW_ERRANDS = "c3_new_errands"
"""Endpoint and resource type. Source: Cention API, "Create Errand"."""
END_ERRANDS = "c3_end_errands"
"""Endpoint and resource type. Source: Cention API, "Close Errand"."""
END_OBCALL = "c3_end_obcall"
"""Endpoint alone: its sample carries the type `c3_end_errands`. Source: Cention API, "End Outbound Call"."""


class Attachment(Attributes):
    """A file of an errand.

    Source: Cention API, "Create Errand", `msg.attachments`.
    """

    content_type: str | None = None
    """The file's media type, such as `text/plain`."""
    name: str | None = None
    """The file's name."""
    content: str | None = None
    """The file, base64 (RFC 4648 section 4)."""

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        name: str | None = None,
        content_type: str | None = None,
        bytes_max: int = FILE_BYTES_MAX,
    ) -> Self:
        """A file as an attachment; blocks while it reads. `load` is the same where an event loop runs.

        Args:
            source: a path, bytes, or a stream that is read to its end and left open.
            name: the file's name; by default that of the path, or of the open file.
            content_type: its media type; by default what the name's ending says.
            bytes_max: the largest file that is taken.

        Raises:
            FileTooLarge: it is larger; no more than that was read.
            OSError: it can't be read.
            TypeError: its name has to be told; or the stream is asynchronous, or one of text.
        """
        name = name or name_of(source)
        content = base64_of(read_source(source, bytes_max))
        return cls(content_type=content_type or content_type_of(name), name=name, content=content)

    @classmethod
    async def load(
        cls,
        source: Source | AsyncReadable,
        *,
        name: str | None = None,
        content_type: str | None = None,
        bytes_max: int = FILE_BYTES_MAX,
    ) -> Self:
        """As `of`, beside the event loop: what blocks is done in a thread; streams may be asynchronous.

        Args:
            source: as for `of`.
            name: as for `of`.
            content_type: as for `of`.
            bytes_max: as for `of`.

        Raises:
            FileTooLarge: as for `of`.
            OSError: as for `of`.
            TypeError: its name has to be told; or the stream is one of text.
        """
        name = name or name_of(source)
        content = await asyncio.to_thread(base64_of, await load_source(source, bytes_max))
        return cls(content_type=content_type or content_type_of(name), name=name, content=content)

    def decoded(self) -> bytes:
        """The file; empty where `content` is.

        Raises:
            ValueError: `content` is no base64.
        """
        return base64.b64decode(self.content or "", validate=True)


class Message(Attributes):
    """The message that an errand is made of.

    Source: Cention API, "Create Errand", `msg`.
    """

    message_id: str | None = None
    """Identifies the message; the bridge sends an effect's id, the same at every attempt."""
    name: str | None = None
    """The writer's name: the caller's."""
    sender: str | None = Field(default=None, alias="from")
    """The writer's address: the caller's number, since the document has no other member for it."""
    subject: str | None = None
    body: str | None = None
    """Plain text."""
    html_body: str | None = None
    """Rich text; used by e-mail and web form channels."""
    attachments: tuple[Attachment, ...] | None = None


class Answer(Attributes):
    """An answer to an errand, which closes it.

    Source: Cention API, "Create Errand" and "Close Errand", `answer`.
    """

    user_type: str | None = None
    """`cention`, `solidus` or `clearinteract`, in whatever case: samples elsewhere send capitals."""
    user_id: str | None = None
    """The database id of the user who closes the errand: a JSON string."""
    subject: str | None = None
    body: str | None = None
    html_body: str | None = None


class WhatsAppTemplate(Attributes):
    """A WhatsApp message that is a template; its errand also needs `answer` with `user_type` and `user_id`.

    Source: Cention API, "Create Errand", `watemplate`.
    """

    elementname: str | None = None
    namespace: str | None = None
    params: tuple[dict[str, JsonValue], ...] | None = None


class ExtraData(Attributes):
    """What is stored with a voice errand.

    Source: Cention API, "Create Errand", `extraData`.
    """

    comment: str | None = None
    """Becomes the errand's internal comment."""
    call_reason: str | None = Field(default=None, alias="callReason")
    appointment_timestamp: str | None = Field(default=None, alias="appointmentTimestamp")
    """Seconds since the epoch, as a JSON string."""


class IntegrationData(Attributes):
    """What ties an errand to a call of the telephone exchange.

    Source: Cention API, "Create Errand", `integrationData`; mandatory there is mandatory here.
    """

    integration_name: str = Field(alias="integrationName")
    """`aventa`: the only integration that Cention supports."""
    reference_id: str | None = Field(default=None, alias="referenceId")
    """The exchange's id of the call."""
    device_id: JsonInteger = Field(alias="deviceId")
    """Part of the key by which Cention knows the agent: a JSON integer."""
    extension_id: JsonInteger = Field(alias="extensionId")
    """Part of the key by which Cention knows the agent: a JSON integer."""
    link: str | None = None
    """URL of the call's recording."""
    end_session: bool | None = Field(default=None, alias="endSession")
    """Whether the call has ended."""
    dest_number: str = Field(alias="destNumber")
    """The called party as MSISDN: country code and number, 1 to 15 digits, no plus."""
    paging_number: str | None = Field(default=None, alias="pagingNumber")
    paging_name: str | None = Field(default=None, alias="pagingName")
    queue_name: str = Field(alias="queueName")
    """The exchange's queue that the call came from."""
    queue_number: str = Field(alias="queueNumber")
    """A JSON string."""
    extra_data: ExtraData | None = Field(default=None, alias="extraData")


class NewErrand(Attributes):
    """POST `c3_new_errands`: creates an errand, or tells again of a call with `endSession` true.

    Source: Cention API, "Create Errand".
    """

    msg: Message | None = None
    answer: Answer | None = None
    """Creates the errand closed."""
    watemplate: WhatsAppTemplate | None = None
    extradata: JsonValue = None
    """Any JSON; stored and shown as text."""
    integration_data: IntegrationData | None = Field(default=None, alias="integrationData")
    cuid: str | None = None
    """The caller's id in another system; goes to the contact card."""


class EndErrand(Attributes):
    """POST `c3_end_errands`: closes an errand.

    Source: Cention API, "Close Errand".
    """

    errand_id: JsonInteger
    """A JSON integer here; the answer to the create gave it as a JSON string."""
    answer: Answer | None = None


class EndObcall(Attributes):
    """POST `c3_end_obcall`: tells that an agent's outbound call has ended.

    Source: Cention API, "End Outbound Call".
    """

    integration_name: str = Field(alias="integrationName")
    dialed_number: str | None = Field(default=None, alias="dialedNumber")
    """As dialled: no MSISDN."""
    device_id: JsonInteger = Field(alias="deviceId")
    extension_id: JsonInteger = Field(alias="extensionId")
