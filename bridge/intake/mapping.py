"""A PBX's own JSON -> JSON of the bridge's call event, by one JMESPath expression per event field.

Owns the expressions and the functions they may call. Must not know what makes an event valid: `wire` judges what comes
out, just as if it had been sent so.

Invariants: with a mapping, an event has the mapped fields and no others (a field that shall pass as it is maps to
itself: `eventId = "eventId"`); the PBX's JSON stays whole in the journal. An expression that finds nothing (null)
leaves its field out. An expression that fails costs that event alone, and the words about it repeat no value.

JMESPath reads but does not translate or calculate, so three functions are added:
    lookup(table, key)    the member of an object that has this name, or null: the PBX's words -> the bridge's
    from_unix(seconds)    RFC 3339 in UTC, for `occurredAt`
    from_unix_ms(ms)      the same from milliseconds

    [intake.mapping]
    eventId = "uuid"
    type = "lookup({ringing: 'call.started', hangup: 'call.ended'}, state)"
    occurredAt = "from_unix(ts)"
    callId = "call.id"
    deviceId = "to_number(agent.phone)"
    extensionId = "agent.ext"
    direction = "(call.out && 'outbound') || 'inbound'"
    calledNumber = "call.to"
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import jmespath
import jmespath.functions
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from bridge.calls.verdicts import Fault
from bridge.intake.models import EVENT_FIELDS, OBJECT_FIELDS
from bridge.runtime.clock import rfc3339

_MS_MAX: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z: a year of RFC 3339 has four digits

# What an expression raises besides JMESPath's own: the library leaves some cases to Python (to_string of a deep value,
# join and sort of odd ones).
_FAILURES: Final = (JMESPathError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


class _Functions(jmespath.functions.Functions):
    """JMESPath's own functions, and ours. The names and signatures are the library's way of finding them."""

    @jmespath.functions.signature({"types": ["object"]}, {"types": ["string", "number", "boolean", "null"]})
    def _func_lookup(self, table: dict[str, Any], key: object) -> object:
        if isinstance(key, bool):
            return table.get("true" if key else "false")
        return table.get(str(key)) if key is not None else None

    @jmespath.functions.signature({"types": ["number"]})
    def _func_from_unix(self, seconds: float) -> str:
        return _rfc3339(seconds * 1000)

    @jmespath.functions.signature({"types": ["number"]})
    def _func_from_unix_ms(self, ms: float) -> str:
        return _rfc3339(ms)


def _rfc3339(ms: float) -> str:
    if not 0 <= ms <= _MS_MAX:  # not a number is none of these either
        raise ValueError("out of range")
    return rfc3339(round(ms))


class MappingFault(ValueError):
    """Expressions that cannot be used.

    Attributes:
        faults: field of the mapping -> what is wrong, for every faulty one.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        self.faults = dict(faults)
        super().__init__("; ".join(f"{field}: {words}" for field, words in self.faults.items()))


class EventMapping:
    """The compiled expressions of `intake.mapping` or `feed.mapping`.

    Raises:
        MappingFault: at construction, with every field that is unknown, mapped twice or not an expression.
    """

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._options = jmespath.Options(custom_functions=_Functions())
        self._compiled: list[tuple[str, str, ParsedResult]] = []
        faults: dict[str, str] = {}
        for field, expression in expressions.items():
            outer, _, inner = field.partition(".")
            if field not in EVENT_FIELDS | OBJECT_FIELDS:
                faults[field] = f"is no field of an event; there are {', '.join(sorted(EVENT_FIELDS | OBJECT_FIELDS))}"
            elif inner and outer in expressions:
                faults[field] = f"is mapped twice: {outer} is mapped as a whole"
            else:
                try:
                    compiled = jmespath.compile(expression)
                    _check_calls(compiled.parsed)
                except _FAILURES as error:
                    faults[field] = f"is no JMESPath expression that can be used: {error}"
                else:
                    self._compiled.append((outer, inner, compiled))
        if faults:
            raise MappingFault(faults)

    def __call__(self, value: object) -> tuple[dict[str, Any], list[Fault]]:
        """The event's JSON, and a fault (`mapping_failed`) for each field whose expression failed."""
        event: dict[str, Any] = {}
        faults: list[Fault] = []
        for outer, inner, compiled in self._compiled:
            try:
                found = compiled.search(value, options=self._options)
            except _FAILURES:
                pointer = f"/{outer}/{inner}" if inner else f"/{outer}"
                faults.append(Fault(pointer, "mapping_failed", "The mapping's expression failed at this event's JSON."))
                continue
            if found is None:
                continue
            if inner:
                event.setdefault(outer, {})[inner] = found
            else:
                event[outer] = found
        return event, faults


def _check_calls(tree: Mapping[str, Any]) -> None:
    """Raises at once what JMESPath would find only when an event gets there: unknown functions, argument counts."""
    for name, arguments in _calls(tree):
        known = _Functions.FUNCTION_TABLE.get(name)
        if known is None:
            raise ValueError(f"there is no function {name}()")
        signature = known["signature"]
        variadic = bool(signature) and signature[-1].get("variadic", False)
        if arguments < len(signature) or (arguments > len(signature) and not variadic):
            raise ValueError(f"{name}() takes {len(signature)} arguments")


def _calls(tree: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Each call in an expression's tree: the function's name and how many arguments it gets."""
    if tree["type"] == "function_expression":
        yield tree["value"], len(tree["children"])
    for child in tree["children"]:
        if isinstance(child, dict):  # a slice has bare numbers
            yield from _calls(child)
