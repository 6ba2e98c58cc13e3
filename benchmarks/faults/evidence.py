"""What a run left behind, read where it lies: Cention's arrivals, cut requests, the outbox in Redis, the active calls.

Read past the faulty links. Writes nothing; knows the keys in Redis by `bridge.store.keys`.
"""

from collections.abc import Iterable, Mapping

import aiohttp
import orjson
from redis import asyncio as redis

from benchmarks.faults.history import Arrival, Held, Message, Pair
from bridge.calls.effects import EffectKind
from bridge.cention.sandbox.state import Arrival as Seen
from bridge.store.keys import PARKED, SHARDS, WAITING, Keys
from bridge.store.records import load_effect


def arrivals_of(seen: Iterable[Seen], dialled: Mapping[tuple[Pair, str], str]) -> list[Arrival]:
    """What Cention worked on, in its order.

    Args:
        seen: the sandbox's record.
        dialled: (pair, number as dialled) to call id, since `c3_end_obcall` names no call.
    """
    found = []
    for one in seen:
        if one.device_id is None or one.extension_id is None:
            continue
        pair: Pair = (one.device_id, one.extension_id)
        if one.endpoint == "c3_end_obcall":
            number = one.dialed_number or "none"
            call_id = dialled.get((pair, number), f"a call to {number}")
            found.append(Arrival(one.at, pair, call_id, opens=False, mark=_obcall_mark(pair, number)))
        else:
            mark = one.message_id or f"no message_id, arrival {one.sequence}"
            errand = None if one.errand_id is None else str(one.errand_id)
            found.append(Arrival(one.at, pair, one.reference_id or "", not one.end_session, mark, errand))
    return found


def mark_of(asked: bytes) -> str | None:
    """What tells the request in `asked` (HTTP) from others, as `Arrival.mark` has it; None where it can't be read."""
    try:
        told = orjson.loads(asked.partition(b"\r\n\r\n")[2])["data"]["attributes"]
        if "msg" in told:
            return str(told["msg"]["message_id"])
        return _obcall_mark((told["deviceId"], told["extensionId"]), told.get("dialedNumber") or "none")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _obcall_mark(pair: Pair, number: str) -> str:
    return f"c3_end_obcall {pair[0]}/{pair[1]} {number}"


async def held_calls(admin_url: str) -> dict[tuple[Pair, str], Held]:
    """Every active call that the bridge lists."""
    held: dict[tuple[Pair, str], Held] = {}
    cursor: str | None = None
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        while True:
            query = {"limit": "1000", **({"cursor": cursor} if cursor else {})}
            async with http.get(f"{admin_url}/v1/calls", params=query) as response:
                page = await response.json()
            for call in page["calls"]:
                key = ((call["deviceId"], call["extensionId"]), call["callId"])
                held[key] = Held(call["state"], call["errandId"])
            if (cursor := page["next"]) is None:
                return held


class OutboxView:
    """Reads the Redis on `port` of loopback."""

    def __init__(self, port: int, prefix: str = "aventa") -> None:
        self._keys = Keys(prefix)
        self._redis = redis.Redis(host="127.0.0.1", port=port, decode_responses=True)

    async def close(self) -> None:
        await self._redis.aclose()

    async def waiting(self) -> int:
        """How many deliveries are not yet made."""
        pipe = self._redis.pipeline(transaction=False)
        for shard in range(SHARDS):
            pipe.zcard(self._keys.of_shard(shard, WAITING))
        counts: list[int] = await pipe.execute()
        return sum(counts)

    async def parked(self) -> dict[Message, str]:
        """The parked messages, with the reason."""
        found: dict[Message, str] = {}
        for shard in range(SHARDS):
            for name in await self._redis.zrange(self._keys.of_shard(shard, PARKED), 0, -1):
                held = await self._redis.hgetall(self._keys.delivery(shard, str(name)))
                told = load_effect(held["effect"])
                pair: Pair = (told.pair.device_id, told.pair.extension_id)
                ordinal = 1 if told.reason == "late_link" else 0
                message = Message(pair, told.call_id, told.kind is EffectKind.OPEN_ERRAND, ordinal)
                found[message] = str(held["reason"])
        return found

    async def memory_mb(self) -> float:
        """What Redis holds, in MB of 10^6 bytes."""
        return float((await self._redis.info("memory"))["used_memory"]) / 1e6
