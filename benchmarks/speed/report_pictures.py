"""Which pictures there are, and which figures each shows."""

from collections.abc import Callable, Mapping

from benchmarks.speed.pictures import Bar, bars
from benchmarks.speed.results import Result, spread_of

Results = Mapping[str, Result]


def throughput(results: Results) -> str | None:
    """Events a second: relay, bridge, and below them the peers of their own run."""
    groups = []
    if "throughput" in results:
        groups.append([_rate(name, case) for name, case in results["throughput"]["cases"].items()])
    if "peers" in results:
        groups.append([_rate(peer["name"], peer) for peer in results["peers"]["peers"].values()])
    note = "Closed loop; counted at the sink. Above: one run; below: another, with what people would pick instead."
    return bars("Events a second, all the way to Cention", groups, note=note) if groups else None


def latency(results: Results) -> str | None:
    """The whole way's p50 and p99, by rate."""
    if "latency" not in results:
        return None
    groups = []
    for percent in ("p50", "p99"):
        group = []
        for name, case in results["latency"]["cases"].items():
            took = spread_of(case["ms"]["whole"][percent])
            label, words = f"{percent}, {name}", f"{took.median:,.1f} ms"
            group.append(Bar(label, took.median, words, _colour(name), took.least, took.greatest))
        groups.append(group)
    return bars(
        "From an event to Cention, open loop, ms",
        groups,
        note="From when the event was due. The scale is logarithmic.",
        powers=True,
    )


def growth(results: Results) -> str | None:
    """Throughput by active calls, as a share of that with the fewest."""
    if "sizes" not in results.get("growth", {}):
        return None
    group = []
    for row in results["growth"]["sizes"]:
        rate = spread_of(row["delivered_per_s"])
        words = f"{rate.median:,.0f}/s"
        label = f"{row['active_calls']:,} active calls"
        group.append(Bar(label, rate.median, words, "ours", rate.least, rate.greatest))
    return bars("Events a second, by active calls", [group])


def costs(results: Results) -> str | None:
    """CPU time an event, by process."""
    if "throughput" not in results:
        return None
    groups = []
    for name, case in results["throughput"]["cases"].items():
        used = {role: case["cpu_us_per_event"][role]["median"] for role in ("subject", "redis")}
        own = Bar(_short(name), used["subject"], f"{used['subject']:.0f} µs", _colour(name))
        groups.append([own, Bar("its Redis", used["redis"], f"{used['redis']:.0f} µs", "third")])
    return bars("CPU time an event, µs", groups, note="Of the process that is measured, and of its Redis.")


def _rate(name: str, told: Mapping[str, Mapping[str, float]]) -> Bar:
    rate = spread_of(told["delivered_per_s"])
    return Bar(_short(name), rate.median, f"{rate.median:,.0f}/s", _colour(name), rate.least, rate.greatest)


def _short(name: str) -> str:
    return name.replace("connections", "conn.").replace("events a request", "a request")


def _colour(name: str) -> str:
    return "ours" if name.startswith("bridge") else "other"


PICTURES: Mapping[str, Callable[[Results], str | None]] = {
    "throughput": throughput,
    "costs": costs,
    "latency": latency,
    "growth": growth,
}
