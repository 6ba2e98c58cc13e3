"""The checker: what the bridge promises, tried under faults, with real processes, and compared afterwards.

`python -m benchmarks.faults` plays seeded scenarios on loopback. Each starts a Redis, bridges and a Cention sandbox,
plays calls at the bridges, lets something go wrong meanwhile, waits until all is quiet, and compares what was sent with
what arrived. What counts as lost, doubled or inverted is in `history`: start reading there.
"""
