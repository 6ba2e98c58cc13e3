"""The outbox: lanes of deliveries, one lane a pair, leased to one worker at a time.

Invariants: a lane's deliveries leave in the order they were committed; a settle counts only while its lease's epoch is
the lane's; a delivery that is put back keeps its place, its due time and its attempts in Redis.
Source: architecture, "Lanes".
"""

import re
from collections.abc import Iterable
from secrets import token_hex

from bridge.calls.effects import Effect
from bridge.calls.events import Pair
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.store.calls import Retention, ServerTime, redis_time
from bridge.store.connection import SCRIPTS, Connection, scored, unless_all_failed
from bridge.store.deliveries import Backlog, Delivery, Settlement
from bridge.store.errors import StoreRefused
from bridge.store.keys import (
    CLOCK,
    EPOCH,
    ERRANDS,
    LANES,
    LEASES,
    PARKED,
    SHARDS,
    WAITING,
    Keys,
    member,
    shard_of,
)
from bridge.store.records import BROKEN, dump_entry, load_effect

log = get_logger(__name__)

HAND_OVER_WAIT_MS = 30_000
"""How soon a lane that waits for a hand-over is looked at again; `release` makes it due at once, so this is a net."""


_ERRAND_ID = re.compile("[1-9][0-9]{0,18}")  # as callbacks tell it: a 64-bit number; another text is nothing to find by


class Outbox:
    """Claims and settles. Every method raises `StoreUnavailable` when Redis is away."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        retention: Retention,
        *,
        lease_ms: int,
        server_time: ServerTime = redis_time,
    ) -> None:
        self._run, self._run_each, self._ask = connection.run, connection.run_each, connection.ask
        self._keys, self._retention = keys, retention
        self._lease_ms, self._now = lease_ms, server_time
        self.due_left: dict[int, int] = {}
        """How many lanes of a shard its last claim left due."""

    async def claim(self, shards: Iterable[int], limit: int) -> list[Delivery]:
        """Leases up to `limit` due lanes in each of `shards` and returns their heads, the longest due first.

        Shards that are away are left out: what was leased in the others must not be lost with their answer.
        """
        asked, began = list(shards), monotonic()
        answers = await self._run_each(
            *(
                SCRIPTS["claim"].call(
                    [self._keys.of_shard(shard, name) for name in (LANES, LEASES, EPOCH, CLOCK)],
                    [self._now(), limit, self._lease_ms, HAND_OVER_WAIT_MS, self._keys.shard(shard), token_hex(4)],
                )
                for shard in asked
            )
        )
        leased = unless_all_failed(answers)
        self.due_left |= {shard: flat[0] for shard, flat in zip(asked, answers, strict=True) if isinstance(flat, list)}
        claimed = (_delivery(began, *flat[at + 1 : at + 8]) for flat in leased for at in range(1, len(flat), 8))
        return [delivery for delivery in claimed if delivery is not None]

    async def settle(
        self,
        delivery: Delivery,
        settlement: Settlement,
        *,
        reason: str = "",
        wait_ms: int = 0,
        errand_id: str | None = None,
        entry: dict[str, object] | None = None,
        go_on: bool = True,
        in_doubt: bool = False,
    ) -> Delivery | None:
        """Writes down what the attempt came to.

        Args:
            reason: why it is parked or put back; the server's words.
            wait_ms: how long it is put back for.
            errand_id: Cention's id of the errand that the attempt created.
            entry: the timeline entry, but for its time.
            go_on: whether to take the lane's next delivery under the same lease.
            in_doubt: whether this attempt or an earlier one may have been carried out; kept until it is delivered.

        Returns:
            The lane's next delivery, or None: the lane is empty, put back, or another worker's.
        """
        began = monotonic()
        effect, keep = delivery.effect, self._retention
        pair, call_id = effect.pair, effect.call_id
        written = b"" if entry is None else dump_entry({"at": now_ms(), **entry})
        keys, shard = self._keys.of_settle(pair, call_id, effect.effect_id), shard_of(pair)
        if keep.errand_ms and errand_id and _ERRAND_ID.fullmatch(errand_id):
            # Named, so that a cluster which is moving the slot refuses the whole script, and not this one write in it.
            keys.append(self._keys.errand(shard, int(errand_id)))
        script = SCRIPTS["settle"].call(
            keys,
            [
                self._now(), str(pair), delivery.epoch, effect.effect_id, settlement, wait_ms, self._lease_ms,
                HAND_OVER_WAIT_MS, int(go_on), self._keys.shard(shard), reason, written,
                keep.timeline_entries, keep.ended_ms, keep.delivered_per_shard, member(pair, call_id), errand_id or "",
                int(in_doubt), keep.errand_ms,
            ],
        )  # fmt: skip
        try:
            answer = await self._ask(script, promised=True)
        except StoreRefused as error:
            # Given up, the attempt would be made again: so only when the lease is over. Others have to go on then.
            if monotonic() - delivery.leased_at > self._lease_ms / 1000:
                raise RuntimeError(f"not written down: {error.reason}") from error
            raise
        if answer[0] != "next":
            return None
        return _delivery(began, delivery.epoch, *answer[1:7])

    async def release(self, hand_over: Effect) -> None:
        """Lets what waits for `hand_over` in the new agent's lane go."""
        assert hand_over.target is not None, "a hand-over names the new agent"
        shard = shard_of(hand_over.target)
        await self._run(
            SCRIPTS["release"].call(
                [
                    self._keys.of_shard(shard, LANES),
                    self._keys.of_shard(shard, LEASES),
                    self._keys.lane(hand_over.target),
                ],
                [self._now(), hand_over.effect_id, str(hand_over.target), self._keys.delivery(shard, "")],
            )
        )

    async def not_yet_made(self, pair: Pair, ids: Iterable[str]) -> list[Effect]:
        """Those of `ids` that wait in the lane of `pair`."""
        keys = [self._keys.delivery(shard_of(pair), delivery_id) for delivery_id in ids]
        answers = await self._run(*(("HMGET", key, "state", "effect") for key in keys))
        return [load_effect(effect) for state, effect in answers if state == "waiting"]

    async def free_leases(self) -> None:
        """Makes every leased lane due at once. Only where no other bridge can be at work: on an embedded Redis.

        The leases stay until the lanes are claimed: they tell that an attempt was begun and never settled.
        """
        shards = range(SHARDS)
        leases = await self._run(*(("HKEYS", self._keys.of_shard(shard, LEASES)) for shard in shards))
        for shard, lanes in zip(shards, leases, strict=True):
            if lanes:
                due = [word for lane in lanes for word in (0, lane)]
                await self._run(("ZADD", self._keys.of_shard(shard, LANES), *due))

    async def errand_id(self, pair: Pair, call_id: str) -> str | None:
        """The id of the errand that the call's leg at `pair` created in Cention, once it is known."""
        errands = self._keys.of_shard(shard_of(pair), ERRANDS)
        live, ended = await self._run(
            ("HGET", errands, member(pair, call_id)), ("HGET", self._keys.ended(pair, call_id), "errand")
        )
        found: str | None = live or ended
        return found

    async def backlog(self) -> Backlog:
        """How much waits, over all shards."""
        told, *answers = await self._run(
            ("TIME",),
            *(
                command
                for shard in range(SHARDS)
                for command in (
                    ("ZCARD", self._keys.of_shard(shard, WAITING)),
                    ("ZCARD", self._keys.of_shard(shard, PARKED)),
                    ("ZRANGE", self._keys.of_shard(shard, WAITING), 0, 0, "WITHSCORES"),
                )
            ),
        )
        now = self._now() or int(told[0]) * 1000 + int(told[1]) // 1000
        oldest = [now - at for first in answers[2::3] for at, _ in scored(first)]
        return Backlog(sum(answers[0::3]), sum(answers[1::3]), max([0, *oldest]))


def _delivery(
    leased_at: float,
    epoch: object,
    delivery_id: str,
    effect: str,
    attempts: int,
    created_at: str,
    doubt: str,
    age_ms: str,
) -> Delivery | None:
    """What a script handed out; None where the effect cannot be read.

    A newer version may have written it during a rolling update. So it is not parked: its lane stands still until the
    lease ends and, in the end, a replica that knows it has it. No other lane is the worse for it.
    """
    try:
        known, in_doubt = load_effect(effect), doubt == "1"
        return Delivery(known, str(epoch), int(attempts), int(created_at), in_doubt, max(0, int(age_ms)), leased_at)
    except BROKEN as error:
        log.error("a delivery cannot be read; its lane stands still", delivery=delivery_id, error=type(error).__name__)
        return None
