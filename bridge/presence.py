"""Which agents are logged in to Cention, read off its logins and logouts; and calls that begin at one who is not.

    GET logio since shortly before the newest record known -> each agent's last record -> shown beside the pair

Owns what is known of each agent of `presence.agents`, and for how long that holds. Each replica knows for itself. Must
not know who shows it.

Invariants: what was read is believed for `STALE_PERIODS` periods after the read, and then nobody is known to be logged
in or out; a read that did not come to its end changes nothing. No login name is logged, and none is a label.
Source: Cention API, "Cention Logio (login & logout) API".
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from bridge.admin.views import Agent
from bridge.calls.events import Pair
from bridge.calls.state import Call
from bridge.cention.client import CentionClient
from bridge.cention.documents import LogioRecord
from bridge.cention.outcome import Failure, TryLater
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger(__name__)

STALE_PERIODS = 3
_OVERLAP_S = 60  # read again each time: a record may be written a little after its own timestamp
_READ_S_LEAST = 30.0  # for one read, however short the period is: the first covers a week
_SPREAD = 0.1  # of a period, up or down, so that replicas that started together do not go on asking together


class Presence:
    """Who is logged in.

    Args:
        token: gives the token with the claim "Access to logio API".
        agents: each agent's pair, by login name.
        every_s: seconds between two reads, roughly.
        asked: told how many requests were made.
    """

    def __init__(
        self,
        client: CentionClient,
        token: Callable[[], str],
        agents: Mapping[str, Pair],
        metrics: Metrics,
        *,
        every_s: float,
        asked: Callable[[int], None] = lambda number: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client, self._token, self._metrics, self._every_s = client, token, metrics, every_s
        self._asked, self._clock = asked, clock
        self._logins = {pair: login for login, pair in agents.items()}
        self._latest: dict[str, LogioRecord] = {}
        self._newest: int | None = None
        self._read_at: float | None = None
        self._failing = False
        self._random = random.Random()  # noqa: S311 (jitter, not a secret)

    async def run(self) -> None:
        """Reads again and again, until cancelled."""
        while True:
            try:
                await self.read()
            except Exception:
                log.exception("presence failed inside the bridge")  # and must not end the service
            self._metrics.presence_known.set(self._known)
            await asyncio.sleep(self._every_s * self._random.uniform(1 - _SPREAD, 1 + _SPREAD))

    async def read(self) -> bool:
        """Reads what happened since the last read; returns whether that came to its end."""
        began = self._clock()
        failure = await self._read()
        if failure is None:
            self._read_at = began
        if (failure is not None) is not self._failing:
            self._failing = failure is not None
            if failure is None:
                log.info("logins and logouts can be read again")
            else:
                log.warning("logins and logouts cannot be read", reason=failure.reason)
        return failure is None

    def agent_of(self, pair: Pair) -> Agent | None:
        """The agent that `pair` stands for, as far as known; None where the settings name none."""
        login = self._logins.get(pair)
        if login is None:
            return None
        record = self._latest.get(login) if self._known else None
        return Agent(login) if record is None else Agent(login, record.logged_in, record.timestamp * 1000)

    def began(self, call: Call) -> None:
        """Warns of a call that begins at an agent who had logged out before."""
        agent = self.agent_of(call.pair)
        if agent is None or agent.logged_in is not False or agent.since is None or agent.since > call.started_at:
            return
        self._metrics.logged_out_calls.inc()
        log.warning("call begins at an agent who is logged out of cention", call=call.call_id, pair=str(call.pair))

    @property
    def _known(self) -> bool:
        return self._read_at is not None and self._clock() - self._read_at <= self._every_s * STALE_PERIODS

    async def _read(self) -> Failure | None:
        logins = set(self._logins.values())
        read: dict[str, LogioRecord] = {}
        newest = self._newest or 0
        since = None if self._newest is None else datetime.fromtimestamp(max(0, self._newest - _OVERLAP_S), UTC)
        # Whoever needs one alone gets no others: fewer people's data travel.
        name = next(iter(logins)) if len(logins) == 1 else None
        self._asked(1)
        try:
            async with (
                asyncio.timeout(max(self._every_s, _READ_S_LEAST)),
                self._client.logio(self._token(), name=name, from_at=since) as records,
            ):
                async for record in records:
                    if not isinstance(record, LogioRecord):
                        return record
                    newest = max(newest, record.timestamp)
                    if record.name in logins and record.logged_in is not None:
                        known = read.get(record.name)
                        # Ids count up within one answer, and tell which of two in one second came later.
                        if known is None or (known.timestamp, known.id) <= (record.timestamp, record.id):
                            read[record.name] = record
        except TimeoutError:
            return TryLater("not read to its end in time")
        # All of a second is in one answer: what it says of that second stands against what was known before.
        self._latest |= {
            login: record
            for login, record in read.items()
            if login not in self._latest or record.timestamp >= self._latest[login].timestamp
        }
        self._newest = newest or None
        return None
