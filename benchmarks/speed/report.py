"""`report`: the tables and pictures of docs/speed.md, made anew from the kept results. Measures nothing.

A table stands between `<!-- figures: NAME -->` and `<!-- end of figures -->`; all else on the page is left alone.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from benchmarks.faults.processes import ROOT
from benchmarks.speed import report_pictures as pictures
from benchmarks.speed.peers.command import DAMAGE
from benchmarks.speed.replicas import CASES
from benchmarks.speed.results import RESULTS, Result, around, markdown, read, text
from benchmarks.speed.targets import TARGETS

PAGE = ROOT / "docs" / "speed.md"
IMAGES = ROOT / "docs" / "images"
SPANS = {"whole": "event to Cention", "accept": "event to its 202", "accept_to_receipt": "202 to Cention"}


def targets(results: Mapping[str, Result]) -> str:
    return markdown(("figure", "target", "measured", "met"), [target.cells(results) for target in TARGETS])


def throughput(results: Mapping[str, Result]) -> str:
    told = results["throughput"]
    rows = [
        (
            name,
            text(case["delivered_per_s"], 0),
            text(case["accepted_per_s"], 0),
            text(case.get("ratio")),
            text(case["cpu_us_per_event"]["subject"], 0),
            text(case["cpu_us_per_event"]["redis"], 0),
            text(case.get("cpu_ratio")),
        )
        for name, case in told["cases"].items()
    ]
    head = (
        "",
        "delivered/s",
        "accepted/s",
        "to the relay",
        "CPU µs an event",
        "of Redis",
        "relay's CPU to it",
    )
    return _with_note(markdown(head, rows), told)


def latency(results: Mapping[str, Result]) -> str:
    told, rows = results["latency"], []
    for name, case in told["cases"].items():
        for span, words in SPANS.items():
            ms, ratio = case["ms"][span], case["ratio"].get(span, {})
            shown = [text(ms[percent]) for percent in ("p50", "p99", "p99.9")]
            rows.append((f"{name}: {words}", *shown, *(text(ratio.get(percent)) for percent in ("p50", "p99"))))
    head = ("", "p50, ms", "p99, ms", "p99.9, ms", "p50 to the relay", "p99 to the relay")
    capacity = told.get("capacity_per_s")
    more = f" The relay's capacity was {capacity:,.0f} events a second." if capacity else ""
    return _with_note(markdown(head, rows), told) + more


def peers(results: Mapping[str, Result]) -> str:
    told, rows = results["peers"], []
    for peer in told["peers"].values():
        kill = peer["kill"] or {}
        damage = [text(kill.get(name), digits) for name, digits in DAMAGE.items()]
        speed = (text(peer["delivered_per_s"], 0), text(peer.get("bridge_to_it")), text(peer["cpu_us"], 0))
        rows.append((peer["name"], *speed, *damage))
    head = (
        "",
        "delivered/s",
        "the bridge to it",
        "CPU µs an event",
        "lost",
        "doubled",
        "out of order",
        "whole after, s",
    )
    skipped = "".join(f" Left out: {name}: {reason}." for name, reason in told["skipped"].items())
    return _with_note(markdown(head, rows), told) + skipped


def growth(results: Mapping[str, Result]) -> str:
    told = results["growth"]
    rows = [
        (
            f"{row['active_calls']:,}",
            text(row["delivered_per_s"], 0),
            text(row["cpu_us"], 0),
            text(row["redis_cpu_us"], 0),
            text(row.get("accept_p50_ms")),
            text(row.get("accept_p99_ms")),
            f"{row['bytes_per_call']:,.0f}",
            f"{row['bridge_mb']:.0f}",
        )
        for row in told["sizes"]
    ]
    head = ("active calls", "delivered/s", "CPU µs an event", "of Redis", "202, p50 ms", "202, p99 ms",
            "bytes of Redis a call", "bridge's MB")  # fmt: skip
    return _with_note(markdown(head, rows), told)


def memory(results: Mapping[str, Result]) -> str:
    sizes = results["growth"]["sizes"]
    kinds = [kind for kind, weight in sizes[-1]["bytes_per_call_by_kind"].items() if abs(weight) >= 1]
    rows = [
        (kind, *(f"{row['bytes_per_call_by_kind'].get(kind, 0):,.0f}" for row in sizes))
        for kind in sorted(kinds, key=lambda kind: -sizes[-1]["bytes_per_call_by_kind"][kind])
    ]
    rows.append(("in all, by `used_memory`", *(f"{row['bytes_per_call']:,.0f}" for row in sizes)))
    return markdown(("bytes an active call", *(f"to {row['active_calls']:,}" for row in sizes)), rows)


def replicas(results: Mapping[str, Result]) -> str:
    told, rows = results["replicas"], []
    for row in told["rows"]:
        for name, words in CASES.items():
            case = row[name]
            figures = (text(case["delivered_per_s"], 0), text(case["cpu_us"], 0), text(case["redis_cpu_us"], 0))
            worth = (text(case.get("as_so_many")), text(case.get("as_so_many_to_strangers")))
            rows.append((words if name == "one" else f"{row['number']} {words}", *figures, *worth))
    head = ("", "delivered/s", "CPU µs an event, all together", "of Redis", "as so many", "machine's share left out")
    return _with_note(markdown(head, rows), told)


def backlog(results: Mapping[str, Result]) -> str:
    told = results["growth"]["backlog"]
    return (
        f"{told['messages']:,} messages, each of another agent, were committed at {told['committed_per_s']:,.0f} a"
        f" second in batches and drained in {told['drained_s']:.1f} s: {told['drained_per_s']:,.0f} a second, at"
        f" {told['cpu_us_per_message']:.0f} µs of CPU each. The bridge had {told['bridge_mb']:.0f} MB at the most."
    )


def parts(results: Mapping[str, Result]) -> str:
    told = results["parts"]
    steps = [(name, text(took, 1)) for name, took in told["steps_us"].items()]
    redis = [
        (name, *(text(took.get(how), 0) for how in ("alone", "together", "redis")))
        for name, took in told["redis_us"].items()
    ]
    head = ("with Redis", "one after the other, µs", "64 at a time, µs each", "Redis' own, µs")
    return _with_note(markdown(("step", "µs"), steps) + "\n\n" + markdown(head, redis), told)


def start(results: Mapping[str, Result]) -> str:
    told = results["parts"]["start"]
    rows = [
        ("start to ready, Redis there", f"{text(told['ready_s'])} s"),
        ("of it, Python's own start", f"{text(told['python_s'])} s"),
        ("imports alone", f"{text(told['import_s'])} s"),
        ("resident memory when ready", f"{text(told['memory_mb'], 1)} MB"),
    ]
    rows += [(f"import of `{name}`", f"{took:.0f} ms") for name, took in list(told["imports_ms"].items())[:8]]
    return markdown(("", ""), rows)


def profile(results: Mapping[str, Result]) -> str:
    told = results["profile"]
    functions, packages = ([*told[kind].items()][:20] for kind in ("functions", "packages"))
    rows = [(f"`{name}`" if "." in name else name, f"{share * 100:.1f} %") for name, share in functions]
    code = ", ".join(f"{name} {share * 100:.0f} %" for name, share in packages if share >= 0.01)
    shown = markdown(("for which function of the bridge's", "of its CPU time"), rows)
    return _with_note(f"Whose code runs: {code}.\n\n{shown}", told)


TABLES: Mapping[str, Callable[[Mapping[str, Result]], str]] = {
    made.__name__: made
    for made in (targets, throughput, profile, latency, peers, growth, memory, replicas, backlog, parts, start)
}


def _with_note(shown: str, result: Result) -> str:
    return f"{shown}\n\n{around(result)}"


def filled(page: str, results: Mapping[str, Result]) -> str:
    """`page` with every table made anew; one whose result is not kept says so."""

    def made(found: re.Match[str]) -> str:
        try:
            shown = TABLES[found[1]](results)
        except KeyError as missing:
            if found[1] not in TABLES:
                raise
            shown = f"Not measured yet ({missing.args[0]})."
        return f"<!-- figures: {found[1]} -->\n{shown}\n<!-- end of figures -->"

    return re.sub(r"<!-- figures: (\w+) -->\n.*?<!-- end of figures -->", made, page, flags=re.DOTALL)


@click.command()
@click.option("--results", "folder", type=click.Path(path_type=Path, file_okay=False), default=RESULTS)
def report(folder: Path) -> None:
    """Make the tables and pictures of docs/speed.md anew from the kept results."""
    results = read(folder)
    PAGE.write_text(filled(PAGE.read_text("utf-8"), results), "utf-8")
    for name, picture in pictures.PICTURES.items():
        if (drawn := picture(results)) is not None:
            (IMAGES / f"speed-{name}.svg").write_text(drawn, "utf-8")
    click.echo(f"{PAGE.relative_to(ROOT)} tells of: {', '.join(results) or 'nothing'}")
