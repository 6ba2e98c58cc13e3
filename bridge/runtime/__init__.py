"""What the process gives every layer: the clock, tasks, logs, metrics, and the manners of an HTTP listener.

Nothing here knows calls, Redis or Cention.
"""
