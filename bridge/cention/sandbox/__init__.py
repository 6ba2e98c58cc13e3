"""A Cention to develop and test against: the documented API over HTTP, errands in memory, and faults on demand.

Layout: `server` (lifetime, and what is wired to what); `endpoints` (Cention's API over HTTP) with `checks` (what it
refuses), `faults` and `breaking` (misbehaviour), and `parts` (what each endpoint does); what these work on: `state`
(errands, agents, arrivals) of `records`, `reports`, `ratings`, `cards`, `shelves` (the library), `files`, `logins`,
given by `data`; `answering` and `callbacks` (what an agent does); `views`, `desk`, `stocks` (JSON for people and
programs) and `page`.

It is stricter than Cention's documentation where a mistake of ours would otherwise pass; `checks` lists where.
"""

from bridge.cention.sandbox.answering import AlreadyAnswered, Answered, AnswerGiven, AttachedFile
from bridge.cention.sandbox.data import Data
from bridge.cention.sandbox.faults import FaultRule
from bridge.cention.sandbox.server import Sandbox
from bridge.cention.sandbox.state import Arrival, Errand

__all__ = [
    "AlreadyAnswered",
    "AnswerGiven",
    "Answered",
    "Arrival",
    "AttachedFile",
    "Data",
    "Errand",
    "FaultRule",
    "Sandbox",
]
