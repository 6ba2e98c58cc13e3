"""A Cention to develop and test against: the documented API over HTTP, errands in memory, and faults on demand.

Layout: `server` (lifetime and routes), `endpoints` (what Cention's endpoints do with a request), `checks` (what they
refuse), `state` (errands, agents, arrivals), `faults` (misbehaviour), `views` (JSON for people and programs).

It is stricter than Cention's documentation where a mistake of ours would otherwise pass; `checks` lists where.
"""

from bridge.cention.sandbox.faults import FaultRule
from bridge.cention.sandbox.server import Sandbox
from bridge.cention.sandbox.state import Arrival, Errand

__all__ = ["Arrival", "Errand", "FaultRule", "Sandbox"]
