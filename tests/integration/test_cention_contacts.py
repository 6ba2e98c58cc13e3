"""Contact cards over real HTTP: the client against the sandbox, and against what may go wrong."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.documents import ContactCard, Contacts, CustomContact
from bridge.cention.outcome import Failure, Fetched, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import SAMPLES, TOKEN, answering, cention, sample, web_server

CONTACTS_TOKEN = "may-write-contacts"
CARD = ContactCard.of("Åsa Öberg", voice=["+46701740605"])


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(tokens={TOKEN: ["create_errand"], CONTACTS_TOKEN: ["contacts"]})
    yield made
    await made.stop()


def kept(read: Fetched[ContactCard] | Failure) -> ContactCard:
    assert isinstance(read, Fetched), read
    return read.value


async def test_every_channel_is_kept(client: CentionClient) -> None:
    card = ContactCard.of(
        "Åsa Öberg",
        email=["asa@example.com"],
        facebook=["12345@facebook.com"],
        vk=["centionvk-cc-12345"],
        line=["centionline-c12345"],
        voice=["+46701740605"],
        custom={"Customer": "17"},
    )
    read = kept(await client.contact_card(card, CONTACTS_TOKEN))
    assert (read.c3_id, read.person, read.contacts) == (13, "Åsa Öberg", card.contacts)


async def test_a_known_address_finds_the_card_and_appends(client: CentionClient) -> None:
    await client.contact_card(CARD, CONTACTS_TOKEN)
    more = ContactCard.of(email=["asa@example.com"], voice=["+46846500400", "+46701740605"], custom=[("Card", "1")])
    for _ in range(2):  # the same again changes nothing
        read = kept(await client.contact_card(more, CONTACTS_TOKEN))
        assert read.c3_id == 13
        assert read.contacts == Contacts(
            name="Åsa Öberg",
            email=("asa@example.com",),
            voice=("+46701740605", "+46846500400"),
            custom=(CustomContact(label="Card", value="1"),),
        )
    other = kept(await client.contact_card(ContactCard.of(voice=["+46701740606"]), CONTACTS_TOKEN))
    assert other.c3_id == 14


async def test_a_number_without_a_plus_is_not_sent(client: CentionClient, sandbox: Sandbox) -> None:
    read = await client.contact_card(ContactCard.of(voice=["46701740605"]), CONTACTS_TOKEN)
    assert read == Rejected(None, "contacts/voice/0: must be E.164, a plus and 1 to 15 digits")
    assert sandbox.contact_cards == []


async def test_claims(client: CentionClient, sandbox: Sandbox) -> None:
    refused = Unauthorised(403, "Forbidden: the token does not carry the claim contacts")
    assert await client.contact_card(CARD, TOKEN) == refused
    assert sandbox.contact_cards == []


async def test_the_samples_go_over_the_wire() -> None:
    seen: list[Any] = []

    async def record(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, request.headers["Content-Type"], await request.json()))
        body = (SAMPLES / "contact_card.response.json").read_bytes()
        return web.Response(status=201, body=body, content_type="application/vnd.api+json")

    card = ContactCard.model_validate_json(json.dumps(sample("contact_card")["data"]["attributes"]))
    async with web_server(record) as url, cention(f"{url}/s/demo") as client:
        read = kept(await client.contact_card(card, CONTACTS_TOKEN))
    assert seen == [("POST", "/s/demo/capi/json/c3_contact_cards", "application/vnd.api+json", sample("contact_card"))]
    assert (read.c3_id, read.contacts) == (13, card.contacts)


@pytest.mark.parametrize(
    ("body", "c3_id"),
    [
        (b'{"data": {"type": "c3_contact_cards", "id": "13"}}', 13),
        (b'{"data": {"id": 13, "attributes": {"name": "Beside", "contacts": {"email": null}}}}', 13),
        (b'{"data": {"id": "13", "attributes": {"c3_id": 14}}}', 14),
        (b'{"data": {"id": "x"}}', None),
        (b'{"data": null}', None),
        (b"{}", None),
        (b"", None),
        (b" \n", None),
    ],
)
async def test_an_answer_may_say_little(body: bytes, c3_id: int | None) -> None:
    raw = b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with answering(raw) as server, cention(server.base_url) as client:
        read = await client.contact_card(CARD, CONTACTS_TOKEN)
    assert isinstance(read, Fetched)
    assert (read.status, read.value.c3_id) == (202, c3_id)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"status": 406}, Rejected),
        ({"status": 429}, TryLater),
        ({"status": 503}, TryLater),
        ({"status": 200, "body": "<title>Login</title>", "content_type": "text/html"}, TryLater),
        ({"status": 401}, Unauthorised),
        ({"status": 201, "body": '{"errors": [{"title": "Not now"}]}'}, Rejected),
        ({"status": 201, "body": '{"data": {"attributes": {"contacts": ["+46701740605"]}}}'}, Rejected),
        ({"status": 201, "body": "[1]"}, Rejected),
        ({"reset": "before"}, Unknown),
        ({"reset": "after"}, Unknown),
        ({"reset": "midway"}, Unknown),
    ],
    ids=str,
)
async def test_every_failure_has_its_outcome(
    client: CentionClient, sandbox: Sandbox, rule: dict[str, Any], kind: type[Failure]
) -> None:
    sandbox.set_faults([rule])
    read = await client.contact_card(CARD, CONTACTS_TOKEN)
    assert isinstance(read, kind), read
    assert "46701740605" not in read.reason


async def test_what_a_refusal_quotes_is_not_repeated() -> None:
    async def quote(request: web.Request) -> web.Response:
        sent = (await request.json())["data"]["attributes"]["contacts"]
        error = {"title": f"{sent['name']} with {sent['voice'][0]} is unwelcome"}
        return web.json_response({"errors": [error]}, status=406)

    async with web_server(quote) as url, cention(f"{url}/s/demo") as client:
        read = await client.contact_card(CARD, CONTACTS_TOKEN)
    assert read == Rejected(406, "*** with *** is unwelcome")
