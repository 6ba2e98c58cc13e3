"""`python -m benchmarks.speed`: one command for each question. Nothing is measured here."""

import click

from benchmarks.speed.growth import growth
from benchmarks.speed.latency import latency
from benchmarks.speed.parts import parts
from benchmarks.speed.peers.command import peers
from benchmarks.speed.profile import profile
from benchmarks.speed.replicas import replicas
from benchmarks.speed.report import report
from benchmarks.speed.throughput import throughput
from bridge.runtime import logs


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    commands=[throughput, latency, parts, growth, replicas, peers, profile, report],
)
def main() -> None:
    """Measure the bridge against baselines on this machine, each figure as a ratio within one run."""
    logs.configure("error", "console")


if __name__ == "__main__":
    main()
