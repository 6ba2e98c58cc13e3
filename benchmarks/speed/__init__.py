"""How fast the bridge is, always as a ratio: bridge and baseline take turns in one run on the same machine.

`python -m benchmarks.speed` has one command for each question. Each part of a run is a process of its own: a
redis-server, the bridge or what it is compared with, a load generator, and a sink that stands for Cention. Load and
sink are as cheap as Python lets them be, so that what is measured is what stands between them. Start at `runs`.
"""
