"""Every key in Redis, on one page.

A pair hashes to one of `SHARDS` shards. Every key of a shard carries the shard's hash tag (`{3}`), so that a script,
which touches one shard only, touches one slot of a Redis Cluster. `SHARDS` never changes: it is part of the data.

    in a shard                              type    holds
    <p>:{3}:pair:<pair>                     string  version and calls, packed; expires an hour after its last call
    <p>:{3}:ended:<pair>:<callId>           hash    call (packed), errand: a call that is over; expires
    <p>:{3}:seen:<eventId>                  string  duplicate mark; expires
    <p>:{3}:timeline:<pair>:<callId>        list    what happened to the call, oldest first, packed; bounded, expires
    <p>:{3}:lane:<pair>                     list    ids of the deliveries that wait, oldest first
    <p>:{3}:delivery:<id>                   hash    effect, created, attempts, after, state, reason, doubt
    <p>:{3}:lanes                           zset    pair -> when its lane is next due, or its lease ends
    <p>:{3}:leases                          hash    pair -> epoch of the worker that holds its lane
    <p>:{3}:epoch                           string  counter of leases
    <p>:{3}:clock                           string  how late it was at a claim, to see when the clock has gone back
    <p>:{3}:timers                          zset    <pair>:<callId> -> when it expires (orphan's grace, greatest age)
    <p>:{3}:active                          zset    <pair>:<callId> -> when the call started
    <p>:{3}:errands                         hash    <pair>:<callId> -> the errand's id, of a call that is not over
    <p>:{3}:finished                        zset    <pair>:<callId> -> when the call ended, of calls with an errand
    <p>:{3}:waiting, :parked, :delivered    zset    delivery id -> when created, parked, delivered
    <p>:{3}:errand:<errandId>               string  <pair>:<callId> of the call that the errand was made for; expires
    <p>:{3}:writable                        string  written to see whether Redis takes writes; expires

    outside the shards, read by the admin side only
    <p>:index:<callId>                      hash    the pairs that the call has been at; expires
    <p>:rejections                          stream  events that were refused; bounded by count and age
    <p>:reconcile                           hash    progress: how far reconciliation came, and what it found
    <p>:reconcile:turn                      string  the replica whose turn it is to reconcile; expires

    what callbacks lead to: lanes, leases, epoch, clock, deliveries and so on as above, of no agent's, and
    <p>:callback:{3}:seen:<callbackId>      string  duplicate mark; expires
    <p>:callback:{3}:callback:<callbackId>  hash    told, received, jobs, file:<file>: what is known of it; expires
    <p>:callback:{3}:document:<callbackId>  hash    document: Cention's JSON; expires
    <p>:callback:{3}:callbacks              zset    callback id -> when it came; bounded by count and age

All times are milliseconds since the epoch. What is packed is read by `bridge.store.packing`. The index is a hash, since
a set of one string takes twice the memory.
"""

from functools import lru_cache
from zlib import crc32

from bridge.calls.events import Pair

SHARDS = 16

# Letters of the ends of keys, so that a misspelt one is a NameError and not an empty key.
LANES, LEASES, EPOCH, TIMERS, ACTIVE, ERRANDS = "lanes", "leases", "epoch", "timers", "active", "errands"
CLOCK, FINISHED = "clock", "finished"
WAITING, PARKED, DELIVERED = "waiting", "parked", "delivered"


CALLBACKS = "callbacks"


@lru_cache(maxsize=4096)  # asked several times an event; about as many pairs as the store remembers
def shard_of(pair: Pair) -> int:
    """The pair's shard, 0 to `SHARDS` - 1."""
    return crc32(str(pair).encode()) % SHARDS


class Keys:
    """Names keys under one prefix (`redis.key_prefix`)."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._shards = [f"{prefix}:{{{number}}}:" for number in range(SHARDS)]

    def shard(self, number: int) -> str:
        """What every key of the shard begins with."""
        return self._shards[number]

    def of_shard(self, number: int, name: str) -> str:
        return self._shards[number] + name

    def pair(self, pair: Pair) -> str:
        return f"{self._shards[shard_of(pair)]}pair:{pair}"

    def ended(self, pair: Pair, call_id: str) -> str:
        return f"{self._shards[shard_of(pair)]}ended:{pair}:{call_id}"

    def seen(self, pair: Pair, event_id: str) -> str:
        return f"{self._shards[shard_of(pair)]}seen:{event_id}"

    def timeline(self, pair: Pair, call_id: str) -> str:
        return f"{self._shards[shard_of(pair)]}timeline:{pair}:{call_id}"

    def lane(self, pair: Pair) -> str:
        return f"{self._shards[shard_of(pair)]}lane:{pair}"

    def delivery(self, shard: int, delivery_id: str) -> str:
        return f"{self._shards[shard]}delivery:{delivery_id}"

    def of_commit(self, pair: Pair, call_id: str, event_id: str) -> list[str]:
        """What `commit.lua` touches, in its order."""
        shard = self._shards[shard_of(pair)]
        return [
            self.pair(pair), self.ended(pair, call_id), self.seen(pair, event_id), self.timeline(pair, call_id),
            self.lane(pair), shard + LANES, shard + TIMERS, shard + ACTIVE, shard + WAITING, shard + PARKED,
            shard + DELIVERED, shard + ERRANDS, shard + LEASES, shard + FINISHED,
        ]  # fmt: skip

    def of_settle(self, pair: Pair, call_id: str, delivery_id: str) -> list[str]:
        """What `settle.lua` touches, in its order."""
        number = shard_of(pair)
        shard = self._shards[number]
        return [
            shard + LANES, shard + LEASES, self.lane(pair), self.delivery(number, delivery_id),
            self.timeline(pair, call_id), shard + ERRANDS, self.ended(pair, call_id), shard + WAITING, shard + PARKED,
            shard + DELIVERED, shard + TIMERS,
        ]  # fmt: skip

    def errand(self, shard: int, errand_id: int) -> str:
        return f"{self._shards[shard]}errand:{errand_id}"

    def index(self, call_id: str) -> str:
        return f"{self._prefix}:index:{call_id}"

    def rejections(self) -> str:
        return f"{self._prefix}:rejections"

    def reconcile(self) -> str:
        return f"{self._prefix}:reconcile"

    def reconcile_turn(self) -> str:
        return f"{self._prefix}:reconcile:turn"

    def writable(self) -> list[str]:
        """One of each shard, since in a cluster, or behind a proxy, one may be writable and another not."""
        return [f"{shard}writable" for shard in self._shards]


class CallbackKeys(Keys):
    """Names the keys of what callbacks lead to. Each shard is in the slot of the same shard of calls.

    What an outbox calls a pair is a lane of a callback here, and a call's id is the call's member, or "" for none: so
    what becomes of a callback stands in the timeline of its call.

    Args:
        prefix: `redis.key_prefix`.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(f"{prefix}:callback")
        self._calls = Keys(prefix)

    def timeline(self, pair: Pair, call_id: str) -> str:
        return self._calls.timeline(*parse_member(call_id)) if call_id else super().timeline(pair, "")

    def mark(self, shard: int, callback_id: str) -> str:
        return f"{self._shards[shard]}seen:{callback_id}"

    def callback(self, shard: int, callback_id: str) -> str:
        return f"{self._shards[shard]}callback:{callback_id}"

    def document(self, shard: int, callback_id: str) -> str:
        return f"{self._shards[shard]}document:{callback_id}"


def member(pair: Pair, call_id: str) -> str:
    """A call's name in `timers`, `active` and `errands`."""
    return f"{pair}:{call_id}"


def parse_member(text: str) -> tuple[Pair, str]:
    """The pair and call id of `member(...)`."""
    device_id, extension_id, call_id = text.split(":", 2)
    return Pair(int(device_id), int(extension_id)), call_id
