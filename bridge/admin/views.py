"""Calls, timelines and rejections as the admin endpoints show them, with personal data masked for viewers.

Source: contract section 4 ("A call is ...", "numbers masked").
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.admin.callback_views import callback_step
from bridge.calls.events import Direction, EventKind, Pair
from bridge.calls.numbers import mask, mask_name
from bridge.calls.state import Call, CallState
from bridge.runtime.clock import rfc3339
from bridge.store.reads import CallHistory, CallRead

_LEVELS_AROUND = 10
_BRACKETS_MAX = 254 - _LEVELS_AROUND

SHOWN_STATES = ("started", "answered", "held", "ended")


def _hide(_text: str) -> str:
    return "***"


_MASKS: dict[str, Callable[[str], str]] = {
    "calledNumber": mask,
    "callingNumber": mask,
    "pagingNumber": mask,
    "callingName": mask_name,
    "cuid": _hide,
    "link": _hide,
}
_PLAIN = {
    **dict.fromkeys(["eventId", "callId", "queueName", "queueNumber", "cause", "endedBy"], re.compile(r"[^\0]*")),
    "type": re.compile("|".join(map(re.escape, EventKind))),
    "direction": re.compile("|".join(Direction)),
    "occurredAt": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{1,20}(Z|[+-][0-9]{2}:[0-9]{2})?", re.IGNORECASE),
}
"""Texts of an event that say nothing of a person, and how they look. Any other member is left out for a viewer: a PBX's
own JSON, or a refused event, may hold anything anywhere."""
_INTEGERS = frozenset(["deviceId", "extensionId", "sequence"])


def shown_state(call: Call) -> str:
    """One of the contract's four states."""
    match call.state:
        case CallState.ORPHANED | CallState.WRITTEN_OFF:
            return CallState.ENDED.value
        case CallState.EXPECTED:
            return call.resume.value
        case state:
            return state.value


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent that a pair stands for.

    Attributes:
        login: the login name in Cention.
        logged_in: None while that is not known.
        since: since when, ms since the epoch; None while that is not known.
    """

    login: str
    logged_in: bool | None = None
    since: int | None = None


AgentOf = Callable[[Pair], Agent | None]
"""Gives a pair's agent, where the settings name one."""


def agent_view(agent: Agent, *, masked: bool) -> dict[str, Any]:
    """An agent beside the pair; a login name is often a person's."""
    return {
        "login": mask_name(agent.login) if masked else agent.login,
        "loggedIn": agent.logged_in,
        "since": None if agent.since is None else rfc3339(agent.since),
    }


def call_view(read: CallRead, *, masked: bool, agent_of: AgentOf = lambda pair: None) -> dict[str, Any]:
    """A call, as contract section 4 names its members, and its agent where one is configured."""
    call, facts = read.call, read.call.facts
    hide: Callable[[str], str] = mask if masked else str
    called, calling = facts.dest_number or facts.called_number, facts.calling_number
    return {
        "callId": call.call_id,
        "deviceId": call.pair.device_id,
        "extensionId": call.pair.extension_id,
        **({} if (agent := agent_of(call.pair)) is None else {"agent": agent_view(agent, masked=masked)}),
        "direction": facts.direction,
        "state": shown_state(call),
        "calledNumber": None if called is None else hide(called),
        "callingNumber": None if calling is None else hide(calling),
        "queueName": facts.queue_name,
        "queueNumber": facts.queue_number,
        "errandId": read.errand_id,
        "startedAt": rfc3339(call.started_at) if call.started_at else None,
        "updatedAt": rfc3339(call.updated_at),
    }


def history_view(
    history: CallHistory,
    *,
    masked: bool,
    agent_of: AgentOf = lambda pair: None,
    files: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The call at its latest agent, and everything that happened to it, at every agent, oldest first.

    Args:
        files: by a callback's id, what is told of its stored files.
    """
    timeline = [step for entry in history.timeline for step in _steps(entry, files or {}, masked=masked)]
    return {**call_view(history.legs[0], masked=masked, agent_of=agent_of), "timeline": timeline}


def _steps(entry: dict[str, Any], files: Mapping[str, Mapping[str, Any]], *, masked: bool) -> list[dict[str, Any]]:
    """A stored entry as what it tells of: an event and the decision on it, an attempt and its answer, or a callback."""
    device_id, extension_id = entry["pair"].split(":")
    where = {"at": entry["at"], "deviceId": int(device_id), "extensionId": int(extension_id)}

    if "callback" in entry:
        return [callback_step(where, entry, files.get(entry["callback"], {}), masked=masked)]

    def part(kind: str, *names: str) -> dict[str, Any]:
        return {**where, "kind": kind, **{name: entry[name] for name in names if name in entry}}

    if "delivery" in entry:
        attempt = part("attempt", "delivery", "effect", "reason", "attempt")
        answer = part(
            "answer",
            "delivery",
            "attempt",
            "outcome",
            "status",
            "errandId",
            "found",
            "contactCard",
            "answer",
            "tookMs",
            "then",
            "waitMs",
        )
        return [attempt, answer]
    event = part("event", "eventId", "type", "occurredAt")
    if "event" in entry:
        event["event"] = event_view(entry["event"], masked=masked)
    return [event, part("decision", "eventId", "from", "to", "effects", "notes")]


def event_view(body: str, *, masked: bool) -> Any:
    """An event as it came (as text, where it is no JSON or nested too deep to stand inside other JSON); for a viewer,
    what is personal masked and what is not known left out."""
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None if masked else body
    if not masked:
        return body if _too_deep(event, body) else event
    if not isinstance(event, dict):
        return None
    shown = {name: value for name, value in event.items() if _is_plain(name, value)}
    if isinstance(target := event.get("transferredTo"), dict):
        shown["transferredTo"] = {
            name: value for name, value in target.items() if name in _INTEGERS and type(value) is int
        }
    for name, hide in _MASKS.items():
        if isinstance(value := event.get(name), str):
            shown[name] = hide(value)
    return shown


def _too_deep(event: Any, body: str) -> bool:
    """Whether `event` could not be written with the levels that an answer puts around it: orjson writes 254."""
    if body.count("{") + body.count("[") < _BRACKETS_MAX:
        return False
    for _ in range(_LEVELS_AROUND):
        event = [event]
    try:
        orjson.dumps(event)
    except orjson.JSONEncodeError:
        return True
    return False


def _is_plain(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return name in _PLAIN and _PLAIN[name].fullmatch(value) is not None
    return name in _INTEGERS and type(value) is int


def rejection_view(stored: dict[str, Any], *, masked: bool) -> dict[str, Any]:
    """A refused event, with the reason."""
    body = stored["body"]
    return {
        "id": stored["id"],
        "at": stored["at"],
        "eventId": stored["event_id"],
        "code": stored["code"],
        "detail": stored["detail"],
        "errors": stored["faults"],
        "event": None if body is None else event_view(body, masked=masked),
    }
