"""Every endpoint of the sandbox: which claim it wants, which methods it has, and that faults reach it."""

from collections.abc import AsyncIterator
from typing import get_args

import aiohttp
import pytest

from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.asked import CLAIMS
from bridge.cention.sandbox.faults import ENDPOINTS
from bridge.settings import Claim
from tests.integration.cention_support import HEADERS
from tests.integration.sandbox_support import Reader, serving

ENDPOINTS_AND_CLAIMS = [
    ("POST", "json/c3_new_errands", {"create_errand"}),
    ("POST", "json/c3_end_errands", {"create_errand"}),
    ("POST", "json/c3_end_obcall", {"create_errand"}),
    ("GET", "json/c3_errand_reports/1", {"errand_data"}),
    ("GET", "json/c3_dirty_errand_list", {"errand_data"}),
    ("POST", "json/c3_dirty_errand_list", {"errand_data"}),
    ("GET", "json/c3_facebook_ratings/1", {"errand_data"}),
    ("GET", "json/c3_dirty_facebook_ratings", {"errand_data"}),
    ("POST", "json/c3_contact_cards", {"contacts"}),
    ("GET", "json/c3_libraries", {"library"}),
    ("GET", "json/c3_libraries/3", {"library"}),
    ("GET", "json/c3_libraries/3/questions", {"library"}),
    ("GET", "json/c3_external_libraries", {"library"}),
    ("GET", "json/c3_external_libraries/3", {"library"}),
    ("GET", "json/c3_library_categories", {"library"}),
    ("GET", "json/c3_library_categories/3", {"library"}),
    ("GET", "json/c3_library_questions", {"library"}),
    ("GET", "json/c3_library_questions/4", {"library"}),
    ("GET", "json/c3_library_questions/4/attachments", {"library"}),
    ("GET", "json/c3_library_questions/4/embedded_archives", {"library"}),
    ("GET", "json/c3_library_attachments/2020", {"library"}),
    ("GET", "json/c3_area_archives/11", {"library", "attachment"}),
    ("GET", "json/c3_response_attachments/1", {"attachment"}),
    ("POST", "json/c3_trigger_exports", {"export"}),
    ("GET", "custom/logio", {"logio"}),
]
PARAMETERS = pytest.mark.parametrize(
    ("method", "path", "claims"),
    ENDPOINTS_AND_CLAIMS,
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else str(value),
)


@pytest.fixture
async def sandbox() -> Sandbox:
    return Sandbox(tokens={f"may-{claim}": [claim] for claim in CLAIMS})


@pytest.fixture
async def reader(sandbox: Sandbox) -> AsyncIterator[Reader]:
    async with serving(sandbox) as made:
        yield made


async def status(reader: Reader, method: str, path: str, token: str, body: bytes = b"{}") -> int:
    headers = {**HEADERS, "Authorization": f"Bearer {token}"}
    if method == "GET":
        del headers["Content-Type"]
    url = f"{reader.base_url}/capi/{path}"
    async with reader.session.request(method, url, data=body if method == "POST" else None, headers=headers) as answer:
        return answer.status


def test_claims_are_named_as_in_the_settings() -> None:
    assert set(CLAIMS) == set(get_args(Claim))


def test_faults_know_every_endpoint_and_no_other() -> None:
    assert {path.split("/")[1] for _, path, _ in ENDPOINTS_AND_CLAIMS} == set(ENDPOINTS)


@PARAMETERS
async def test_a_token_without_the_claim_is_403(reader: Reader, method: str, path: str, claims: set[str]) -> None:
    for claim in CLAIMS:
        got = await status(reader, method, path, f"may-{claim}")
        assert (got != 403) == (claim in claims), claim
    assert await status(reader, method, path, "unknown") == 401


@PARAMETERS
async def test_only_the_documented_methods(reader: Reader, method: str, path: str, claims: set[str]) -> None:
    token = f"may-{next(iter(claims))}"
    allowed = {one for one, same, _ in ENDPOINTS_AND_CLAIMS if same == path}
    for other in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        got = await status(reader, other, path, token)
        assert (got == 405) == (other not in allowed), other
    assert method in allowed


@PARAMETERS
async def test_faults_reach_every_endpoint(
    reader: Reader, sandbox: Sandbox, method: str, path: str, claims: set[str]
) -> None:
    endpoint, token = path.split("/")[1], f"may-{next(iter(claims))}"
    sandbox.set_faults([{"endpoint": endpoint, "status": 599, "times": 1}, {"endpoint": endpoint, "reset": "before"}])
    assert await status(reader, method, path, token) == 599
    with pytest.raises(aiohttp.ClientError):
        await status(reader, method, path, token)
    sandbox.set_faults([{"endpoint": next(one for one in ENDPOINTS if one != endpoint), "status": 599}])
    assert await status(reader, method, path, token) != 599


async def test_a_fault_can_be_for_one_id(reader: Reader, sandbox: Sandbox) -> None:
    sandbox.set_faults([{"endpoint": "c3_library_questions", "match": {"id": "4"}, "status": 503}])
    for path, wanted in (("4", 503), ("4/attachments", 503), ("5", 200), ("", 404)):
        assert await status(reader, "GET", f"json/c3_library_questions/{path}", "may-library") == wanted
    assert await status(reader, "GET", "json/c3_library_questions", "may-library") == 200


def test_a_claim_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no claim is called libary, only create_errand"):
        Sandbox(tokens={"a": ["libary"]})
