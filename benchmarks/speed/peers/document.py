"""Cention's document for an event, as little as a peer would write: no number is checked, and nothing is looked up."""

import re
from typing import Any

import orjson


def document(event: dict[str, Any]) -> bytes:
    """The body of the POST that tells of `event`."""
    attributes = {
        "msg": {
            "message_id": event["eventId"],
            "name": event.get("callingName") or "",
            "from": event.get("callingNumber") or "anonymous",
            "subject": f"Call from {event.get('callingNumber')} to {event.get('calledNumber')}",
            "body": f"Call: {event['callId']}",
        },
        "integrationData": {
            "integrationName": "aventa",
            "referenceId": event["callId"],
            "deviceId": event["deviceId"],
            "extensionId": event["extensionId"],
            "endSession": event["type"] == "call.ended",
            "destNumber": re.sub(r"\D", "", event.get("calledNumber") or "0"),
            "queueName": event.get("queueName") or "outbound",
            "queueNumber": event.get("queueNumber") or "0",
        },
    }
    return orjson.dumps({"data": {"type": "c3_new_errands", "attributes": attributes}})


HEADERS = {"Content-Type": "application/vnd.api+json", "Authorization": "Bearer benchmark"}
