"""Shared by the tests of the Cention sandbox: reading its API, data that makes the samples, and forms of answers."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bridge.cention.sandbox import Data, Sandbox
from tests.integration.cention_support import SAMPLES, Caller

MEDIA_TYPE = "application/vnd.api+json"


class Reader(Caller):
    """A `Caller` that also reads, and speaks JSON with the views."""

    async def get(self, path: str, query: Mapping[str, str] | None = None, status: int = 200) -> Any:
        """What is at `path` below `capi/json/`."""
        return await self._read(f"json/{path}", query, status)

    async def logio(self, query: Mapping[str, str] | None = None, status: int = 200) -> Any:
        """The logins: JSON where the query asks for it, or else text."""
        return await self._read("custom/logio", query, status)

    async def _read(self, path: str, query: Mapping[str, str] | None, status: int) -> Any:
        headers = {"Authorization": "Bearer any", "Accept": MEDIA_TYPE}
        async with self.session.get(f"{self.base_url}/capi/{path}", params=query, headers=headers) as response:
            body = await response.read()
            assert response.status == status, body
            return body.decode() if response.content_type == "text/csv" else json.loads(body)

    async def tell(self, path: str, document: Any, status: int = 200, method: str = "POST") -> Any:
        """Sends JSON to a view, and returns what it answers."""
        async with self.session.request(method, self.view_url + path, json=document) as response:
            body = await response.read()
            assert response.status == status, body
            return json.loads(body) if body else None


@asynccontextmanager
async def serving(sandbox: Sandbox) -> AsyncIterator[Reader]:
    """A running `sandbox`."""
    try:
        async with aiohttp.ClientSession() as session:
            yield Reader(await sandbox.start(), session)
    finally:
        await sandbox.stop()


def answer_sample(name: str) -> Any:
    """A documented answer."""
    return json.loads((SAMPLES / f"{name}.response.json").read_bytes())


def data(**parts: Any) -> Data:
    """Data from its JSON form."""
    return Data.model_validate_json(json.dumps(parts))


def data_of(*documents: Mapping[str, Any]) -> Data:
    """Data with every library resource of the documents; what two of them tell differently, the last one tells."""
    kinds = {
        "c3_libraries": "libraries",
        "c3_external_libraries": "libraries",
        "c3_library_categories": "categories",
        "c3_library_questions": "questions",
        "c3_library_attachments": "attachments",
    }
    parts: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in kinds.values()}
    for document in documents:
        first = document["data"]
        for resource in [*document.get("included", ()), *(first if isinstance(first, list) else [first])]:
            attributes = resource["attributes"]
            made = dict(attributes.get("attachment", attributes))
            made.pop("c3_id", None)
            if resource["type"] == "c3_external_libraries":
                made["external"] = True
            for name, related in resource.get("relationships", {}).items():
                made[name] = [int(end["id"]) for end in related["data"]]
            known = parts[kinds[resource["type"]]].setdefault(int(resource["id"]), {"id": int(resource["id"])})
            known.update(made)
    return data(library={name: list(found.values()) for name, found in parts.items()})


def in_order(document: Any) -> Any:
    """The document with `included` sorted, since it has no order."""
    if "included" not in document:
        return document
    return {**document, "included": sorted(document["included"], key=lambda one: (one["type"], int(one["id"])))}


def form(value: Any) -> Any:
    """What a JSON value is made of, its values aside: names and JSON types; of a list, each kind of item once."""
    if isinstance(value, dict):
        return {name: form(one) for name, one in sorted(value.items())}
    if isinstance(value, list):
        return sorted({json.dumps(form(one)) for one in value})
    return "null" if value is None else type(value).__name__
