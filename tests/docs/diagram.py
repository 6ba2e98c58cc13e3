"""The state diagram of `docs/calls.md`, drawn from the TRANSITIONS table.

`python -m tests.docs.diagram`, from the top of the repository, puts it into the page; `tests/docs/test_docs.py` fails
while page and table differ. It lives with the tests, since nothing but the documentation needs it.

Left out is a trigger that neither changes the state nor does anything: it only adds to what is known of the call.
"""

from collections.abc import Mapping
from pathlib import Path

from bridge.calls.state import LIVE, RESUME, TRANSITIONS, CallState, Rule, Trigger

PAGE = Path(__file__).parents[2] / "docs" / "calls.md"
BEGIN, END = "<!-- begin: python -m tests.docs.diagram -->\n", "<!-- end: python -m tests.docs.diagram -->\n"


def diagram() -> str:
    """The table as a Mermaid state diagram, in a fenced block of Markdown that ends with a line break."""
    # No frame around the live states, which would save arrows: Mermaid lays the arrows that leave it over each other.
    lines = ["stateDiagram-v2", f"[*] --> {CallState.UNSEEN}", f"state {RESUME} <<choice>>"]
    for state, row in TRANSITIONS.items():
        lines += _arrows(state, row)
    lines += [f"{RESUME} --> {state}" for state in CallState if state in LIVE]
    return "\n".join(["```mermaid", *lines, "```", ""])


def _arrows(state: CallState, row: Mapping[Trigger, Rule]) -> list[str]:
    """One arrow for each target; on it a line for each thing that is done, behind the triggers that do it."""
    arrows: dict[str, dict[str, list[str]]] = {}
    for trigger, rule in row.items():
        if rule.to != state or rule.does:
            does = " / " + ", ".join(rule.does) if rule.does else ""
            arrows.setdefault(rule.to, {}).setdefault(does, []).append(trigger.replace("_", " "))
    return [
        f"{state} --> {to}: " + "<br>".join(", ".join(triggers) + does for does, triggers in told.items())
        for to, told in arrows.items()
    ]


def placed(page: str) -> str:
    """`page` with the diagram of now between the two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN.strip()} or {END.strip()}")
    return f"{before}{begin}{diagram()}{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(placed(PAGE.read_text("utf-8")), "utf-8")
