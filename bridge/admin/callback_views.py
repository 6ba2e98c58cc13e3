"""Callbacks as the admin endpoints show them: in a call's timeline, in a list, and one by itself.

An answer is a letter to a person, who may be a patient. So for a viewer neither its subject, nor whom it went to, nor
what its files are called is shown, let alone its text; an operator sees these, and the text only of a callback that is
asked for by its id.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from bridge.calls.effects import EffectKind
from bridge.runtime.clock import rfc3339
from bridge.store.callbacks import Job, KeptCallback

HIDDEN = "***"

_Told = Mapping[str, Any]


def callback_view(kept: KeptCallback, *, masked: bool) -> dict[str, Any]:
    """A callback in a list: what it is about, and what became of its files and its forwarding."""
    pair, call_id = (None, None) if kept.call is None else kept.call
    jobs = {job.delivery_id.removeprefix(f"{kept.callback_id}-"): job for job in kept.jobs}
    fetching = {
        name.removeprefix(f"{EffectKind.FETCH_FILE.value}-"): job
        for name, job in jobs.items()
        if name.startswith(EffectKind.FETCH_FILE.value)
    }
    files = [
        _job_view(fetching.get(name)) | file_view(name, kept.files.get(name, {}), masked=masked)
        for name in {**fetching, **kept.files}
    ]
    return {
        "callbackId": kept.callback_id,
        "receivedAt": rfc3339(kept.received_at),
        "callId": call_id,
        "deviceId": None if pair is None else pair.device_id,
        "extensionId": None if pair is None else pair.extension_id,
        **_answer(kept.told, masked=masked),
        "files": files,
        "forward": _job_view(jobs.get(EffectKind.FORWARD_CALLBACK.value)) or None,
    }


def document_view(kept: KeptCallback, *, masked: bool) -> dict[str, Any]:
    """One callback by itself: for an operator with Cention's document."""
    view = callback_view(kept, masked=masked)
    return view if masked or kept.document is None else {**view, "document": orjson.loads(kept.document)}


def callback_step(where: _Told, entry: _Told, files: Mapping[str, _Told], *, masked: bool) -> dict[str, Any]:
    """A callback in the timeline of its call.

    Args:
        where: the members that every step has.
        entry: the timeline's, as stored.
        files: those that are stored, by their names in the store.
    """
    return {
        **where,
        "kind": "callback",
        "callbackId": entry["callback"],
        **_answer(entry, masked=masked),
        "files": [file_view(name, told, masked=masked) for name, told in files.items()],
    }


def file_view(name: str, told: _Told, *, masked: bool) -> dict[str, Any]:
    """A file: which, and, once it is stored, what Cention says of it and where it is."""
    kind, _, number = name.rpartition("-")
    view: dict[str, Any] = {"type": kind, "id": number}
    for member, personal in (("name", True), ("contentType", False), ("size", False), ("path", True)):
        if told.get(member) is not None:
            view[member] = HIDDEN if masked and personal else told[member]
    return view


def _answer(told: _Told, *, masked: bool) -> dict[str, Any]:
    # What is missing has its default: two versions may run on one Redis, and another may have written this.
    subject, recipients = told.get("subject"), told.get("to", [])
    return {
        "event": told.get("event"),
        "errandId": told.get("errandId"),
        "service": told.get("service"),
        "subject": HIDDEN if masked and subject is not None else subject,
        "to": [HIDDEN for _ in recipients] if masked else recipients,
        "fileCount": told.get("files", 0),
    }


def _job_view(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {}
    return {"state": job.state, "attempts": job.attempts, **({"reason": job.reason} if job.reason else {})}
