"""Shared by the integration tests."""

from collections.abc import AsyncIterator

import pytest

from bridge.cention.client import CentionClient
from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import cention


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[CentionClient]:
    """A client of the test module's own `sandbox`."""
    async with cention(await sandbox.start()) as made:
        yield made
