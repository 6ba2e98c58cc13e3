"""An errand's report as the sandbox makes it up from what it was sent. Pure but for the clock.

Shaped after the documentation's sample. What the documents do not hold (service, area, agent) is the same for every
errand here. Source: Cention API, "Errand Reports".
"""

import html
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from bridge.cention.documents import ERRAND_REPORTS
from bridge.cention.sandbox.records import AGENT, AREA, CHANNEL
from bridge.cention.sandbox.state import ANSWER, Errand
from bridge.runtime.clock import now_ms

SLA_AFTER_MS = 60_000
"""The report job runs every minute; until it has, `sla` is null."""


def report(errand: Errand, *, changed: bool, fields: Collection[str] = ()) -> dict[str, Any]:
    """The document of GET `c3_errand_reports/<id>`.

    Args:
        errand: the errand.
        changed: whether its dirty flag was set before this read.
        fields: the attributes wanted; none wants all. Names that are not known bring nothing, as with JSON:API.
    """
    answer = errand.answer_told
    attributes = {
        "actions": _actions(errand),
        "basic": {
            "acquired": False,
            "data": _data(errand, answered=bool(answer)),
            "groupWith": 0,
            "hasChild": False,
            "id": errand.errand_id,
            "style": {},
            "threadId": errand.errand_id,
        },
        "c3_id": errand.errand_id,
        "changed": changed,
        "extended": {
            "answer_body": answer.get("body") or "",
            "answer_subject": answer.get("subject") or "",
            "errand_tags": None,  # Go's empty list: null
            "feedback": {"Answer": "", "QuestionHTML": "", "QuestionText": "", "value": 0},
        },
        "sla": _sla(errand),
    }
    if fields:
        attributes = {name: value for name, value in attributes.items() if name in fields}
    return {"data": {"type": ERRAND_REPORTS, "id": str(errand.errand_id), "attributes": attributes}}


def _data(errand: Errand, *, answered: bool) -> dict[str, Any]:
    closed, message = errand.ended_at is not None, errand.told.get("msg") or {}
    name, address = message.get("name") or "", message.get("from") or ""
    subject, text = message.get("subject") or "", message.get("body") or ""
    return {
        "id": errand.errand_id,
        "displayId": str(errand.errand_id),
        "status": "Errand has been answered" if answered else "Errand is closed" if closed else "New errand",
        "service": 1,
        "serviceName": CHANNEL,
        "organisationId": 1,
        "organisationName": "sandbox",
        "area": 1,
        "areaName": AREA,
        "priority": "",
        "agentId": 1,
        "agent": AGENT,
        "from": f"{name} ({address})" if name else address,
        "fromAddress": address,
        "fromName": name,
        "to": errand.dest_number or "",
        "toAddresses": [errand.dest_number] if errand.dest_number else None,
        "copy": "",
        "copyAddresses": None,
        "subject": subject,
        "iconicSubject": html.escape(subject),
        # The sample shows HTML for a plain text; how it gets there is a guess.
        "body": message.get("html_body") or f'<div dir="ltr">{html.escape(text).replace(chr(10), "<br/>")}</div>\r\n',
        "date": _date(errand.created_at),
        "answeredDate": _date(errand.answered_at),
        "donedate": _date(errand.ended_at),
        "attachments": str(len(message.get("attachments") or ())),
        "closed": closed,
        "deleted": False,
        "answered": answered,
        "wasForwardedToExternal": False,
        "wasClonedAndForwardedExternal": False,
        "feedbackAnswer": "",
        "feedbackLink": "",
        "fbPms": False,
        "fbLikes": "",
        "fbAction": "",
        "sendPm": False,
        "hasAnswer": answered,
        "answerDeleted": False,
        "retweet": False,
        "twitterPm": False,
        "secureUserId": "",
    }


def _actions(errand: Errand) -> list[dict[str, Any]]:
    done = [(errand.created_at, "was created", AGENT)]
    given = errand.answer
    if errand.ended_at is not None and errand.ended_by != ANSWER:
        done.append((errand.ended_at, f"was ended by {errand.ended_by}", AGENT))
    if given is not None:
        done.append((given.at, "was answered and closed", given.agent))
    return [
        {
            "id": number,
            "note": f"Errand {errand.errand_id} {what} by agent {agent} at {_time(at)}.",
            "origin": agent,
            "time": _time(at),
            "timeStamp": at // 1000,
        }
        for number, (at, what, agent) in enumerate(done, 1)
    ]


def _sla(errand: Errand) -> dict[str, Any] | None:
    if now_ms() - errand.updated_at < SLA_AFTER_MS:
        return None
    took_s = 0 if errand.ended_at is None else (errand.ended_at - errand.created_at) // 1000
    return {"done_due": False, "expiry": 0, "handling_time": took_s, "response_time": took_s, "within_sla": True}


def _date(ms: int | None) -> str:
    return "No Date" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y/%m/%d %H:%M")


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
