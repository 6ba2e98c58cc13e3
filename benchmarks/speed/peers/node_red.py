"""Node-RED: http in -> function (Cention's document) -> Redis XADD -> 202, and http request to Cention.

Durable is the event alone: nothing reads the stream, so what is under way when the process dies is lost, and what
Cention refuses is not sent again. No duplicates are found and no order is kept.
"""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.faults.processes import free_port
from benchmarks.speed.peers import installed
from benchmarks.speed.programs import Program, tied
from benchmarks.speed.subjects import Subject
from bridge.store.embedded import EmbeddedRedis

NAME = "Node-RED"

_MAP = """
const e = msg.payload;
msg.document = {data: {type: 'c3_new_errands', attributes: {
  msg: {message_id: e.eventId, name: e.callingName || '', from: e.callingNumber || 'anonymous',
        subject: `Call from ${e.callingNumber} to ${e.calledNumber}`, body: `Call: ${e.callId}`},
  integrationData: {integrationName: 'aventa', referenceId: e.callId, deviceId: e.deviceId,
    extensionId: e.extensionId, endSession: e.type === 'call.ended',
    destNumber: (e.calledNumber || '0').replace(/\\D/g, ''),
    queueName: e.queueName || 'outbound', queueNumber: e.queueNumber || '0'}}}};
msg.topic = 'events';
msg.payload = ['*', 'event', JSON.stringify(e)];
return msg;
"""
_ACCEPTED = "msg.statusCode = 202; msg.payload = ''; return msg;"
_TELL = """
msg.payload = msg.document;
msg.headers = {'content-type': 'application/vnd.api+json', authorization: 'Bearer benchmark'};
return msg;
"""


def flow(redis_socket: str, sink_port: int) -> list[dict[str, object]]:
    """The flow, as Node-RED's editor would export it."""

    def node(id_: str, kind: str, *wires: str, **members: object) -> dict[str, object]:
        return {"id": id_, "type": kind, "z": "flow", "name": "", "wires": [list(wires)], **members}

    return [
        {"id": "flow", "type": "tab", "label": "calls"},
        {
            "id": "redis", "type": "redis-config", "name": "the only one", "cluster": False, "optionsType": "json",
            "options": json.dumps({"path": redis_socket}),
        },
        node("in", "http in", "map", url="/v1/events", method="post", upload=False),
        node("map", "function", "store", func=_MAP, outputs=1),
        node("store", "redis-command", "accepted", "tell", server="redis", command="xadd", topic="events", params="[]",
             paramsType="json", payloadType="json", block=False),
        node("accepted", "function", "out", func=_ACCEPTED, outputs=1),
        node("out", "http response"),
        node("tell", "function", "cention", func=_TELL, outputs=1),
        node("cention", "http request", method="POST", ret="txt", url=f"http://127.0.0.1:{sink_port}/", persist=True),
    ]  # fmt: skip


def _settings(port: int) -> str:
    settings = {
        "uiPort": port, "uiHost": "127.0.0.1", "httpAdminRoot": False, "flowFile": "flows.json",
        "credentialSecret": False, "telemetry": {"enabled": False, "updateNotification": False},
        "externalModules": {"autoInstall": False, "palette": {"allowInstall": False}},
        "logging": {"console": {"level": "info", "metrics": False, "audit": False}},
    }  # fmt: skip
    return f"module.exports = {json.dumps(settings)};\n"


@asynccontextmanager
async def start(directory: Path, sink_port: int) -> AsyncIterator[Subject]:
    """Raises `CannotInstall` where there is no Node.js."""
    folder = installed.node_red()
    program_file = folder / "node_modules" / "node-red" / "red.js"
    version = json.loads((program_file.parent / "package.json").read_text())["version"]
    home = directory / "node-red"
    home.mkdir()
    async with EmbeddedRedis(directory / "redis") as server:
        (home / "flows.json").write_text(json.dumps(flow(unquote(urlsplit(server.url).path), sink_port)))
        (home / "settings.js").write_text(_settings(port := free_port()))
        node = shutil.which("node") or "node"
        command = tied(node, str(program_file), "--userDir", str(home), "--settings", str(home / "settings.js"))
        async with Program(*command, ready="Started flows", cwd=home) as program:
            assert server.pid is not None
            pids = {"subject": [program.pid], "store": [server.pid]}
            yield Subject(f"{NAME} {version}", [port], pids, server.url, program.log, program.replace)
