"""Telling Cention: lanes worked off in order, outcomes turned into what to do next."""
