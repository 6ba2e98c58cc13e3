"""Cention's API: documents, one client method per endpoint, outcomes as values, and a sandbox that serves it.

Knows no call and no Redis.
"""
