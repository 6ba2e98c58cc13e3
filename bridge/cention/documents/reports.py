"""Errand reports and the list of errands that have changed: what is read of an errand, and marked.

Every member of what is read may be missing or null: `sla` is null while Cention's report job runs, and a sparse read
brings nothing else than what it asked for. Attribute names are Python's; each alias is the wire's own spelling.

Source: Cention API, "Cention Errand Report".
"""

from pydantic import Field, JsonValue

from bridge.cention.documents.base import Document, JsonInteger

ERRAND_REPORTS = "c3_errand_reports"
"""Endpoint and resource type. Source: Cention API, "Errand Reports"."""
DIRTY_ERRANDS = "c3_dirty_errand_list"
"""Endpoint and resource type. Source: Cention API, "Dirty Errand List"."""


class ErrandAction(Document):
    """One thing that was done to the errand.

    Source: Cention API, "Errand Reports", `actions`.
    """

    id: JsonInteger | None = None
    note: str | None = None
    """For people; holds agents' names."""
    origin: str | None = None
    """The agent's name."""
    time: str | None = None
    """For people: `2015-07-16 20:50:17 +0800 MYT`."""
    timestamp: JsonInteger | None = Field(default=None, alias="timeStamp")
    """Seconds since the epoch."""


class ErrandData(Document):
    """The errand's own fields, as far as something here reads them; the others are kept as unknown members.

    Source: Cention API, "Errand Reports", the sample's `basic.data`.
    """

    id: JsonInteger | None = None
    """A JSON integer; the answer to the create gave it as a JSON string."""
    display_id: str | None = Field(default=None, alias="displayId")
    service_name: str | None = Field(default=None, alias="serviceName")
    area: JsonInteger | None = None
    area_name: str | None = Field(default=None, alias="areaName")
    agent_id: JsonInteger | None = Field(default=None, alias="agentId")
    agent: str | None = None
    from_address: str | None = Field(default=None, alias="fromAddress")
    """What the create sent as `msg.from`."""
    from_name: str | None = Field(default=None, alias="fromName")
    to_addresses: tuple[str, ...] | None = Field(default=None, alias="toAddresses")
    subject: str | None = None
    body: str | None = None
    """HTML, even where the create sent plain text."""
    date: str | None = None
    """`2015/07/16 20:47`, in the server's own zone."""
    attachments: str | None = None
    """How many: a JSON string."""
    closed: bool | None = None
    deleted: bool | None = None
    answered: bool | None = None


class ErrandBasic(Document):
    """Source: Cention API, "Errand Reports", `basic`."""

    id: JsonInteger | None = None
    acquired: bool | None = None
    """Whether an agent has taken it."""
    data: ErrandData | None = None
    group_with: JsonInteger | None = Field(default=None, alias="groupWith")
    has_child: bool | None = Field(default=None, alias="hasChild")
    thread_id: JsonInteger | None = Field(default=None, alias="threadId")


class ErrandTag(Document):
    """Source: Cention API, "Errand Reports", `extended.errand_tags`."""

    id: JsonInteger | None = None
    desc: str | None = None


class ErrandExtended(Document):
    """The answer, the tags and the caller's feedback.

    Source: Cention API, "Errand Reports", `extended`.
    """

    answer_subject: str | None = None
    answer_body: str | None = None
    errand_tags: tuple[ErrandTag, ...] | None = None
    feedback: dict[str, JsonValue] | None = None
    report: dict[str, JsonValue] | None = None
    """In the table of fields, not in the sample."""


class ErrandSla(Document):
    """Source: Cention API, "Errand Reports", `sla`."""

    done_due: bool | None = None
    expiry: JsonInteger | None = None
    """0: none, 1: warning, 2: expired; up to five minutes behind."""
    handling_time: JsonInteger | None = None
    """Seconds."""
    response_time: JsonInteger | None = None
    """Seconds."""
    within_sla: bool | None = None


class ErrandReport(Document):
    """GET `c3_errand_reports/<id>`. Reading one clears the errand's dirty flag.

    Source: Cention API, "Errand Reports".
    """

    c3_id: JsonInteger | None = None
    changed: bool | None = None
    actions: tuple[ErrandAction, ...] | None = None
    basic: ErrandBasic | None = None
    extended: ErrandExtended | None = None
    sla: ErrandSla | None = None

    @property
    def errand(self) -> ErrandData:
        """The errand's own fields; all None where the report has none."""
        data = self.basic.data if self.basic is not None else None
        return ErrandData() if data is None else data


class DirtyErrands(Document):
    """GET `c3_dirty_errand_list`: the errands that have changed; POST: those that are to count as changed.

    Source: Cention API, "Dirty Errand List".
    """

    errands: tuple[JsonInteger, ...] | None = None
    """Errand ids: JSON integers."""
