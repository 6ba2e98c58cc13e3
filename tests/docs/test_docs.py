"""What the documentation says, against what the code is. `tests/docs/test_examples.py` runs its examples."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.metrics import MetricWrapperBase

from benchmarks.faults.scenarios import SCENARIOS
from bridge.calls.effects import EffectKind
from bridge.calls.events import EventKind
from bridge.cention.documents.contacts import Contacts
from bridge.cention.outcome import Outcome
from bridge.cli import COMMANDS
from bridge.runtime.metrics import Metrics
from bridge.settings import Settings
from tests.docs import diagram
from tests.docs.codes import codes
from tests.unit.test_settings_documents import every_key

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ADRS = sorted(DOCS.glob("adr/[0-9]*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def text(page: Path) -> str:
    return page.read_text("utf-8")


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def table(page: Path, head: str) -> list[list[str]]:
    """The cells of the page's table whose first column is headed `head`, without the head."""
    (rows,) = re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text(page), flags=re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows.splitlines()]


def anchors(page: Path) -> set[str]:
    """What the page's headings can be linked to as: in lower case, hyphens for spaces, other marks left out."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The targets of the page's relative links and pictures."""
    targets = re.findall(r"\]\(([^()\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.is_relative_to(ROOT), target
        assert goal.exists(), target
        if anchor:
            assert anchor in anchors(goal), target


@pytest.mark.parametrize("index", [DOCS / "README.md", DOCS / "adr" / "README.md"], ids=["pages", "decisions"])
def test_an_index_has_every_page_beside_it(index: Path) -> None:
    beside = {page.name for page in index.parent.glob("*.md")} - {index.name}
    assert beside <= {target.partition("#")[0] for target in links(index)}


@pytest.mark.parametrize("page", ADRS, ids=lambda page: page.stem)
def test_a_decision_has_its_number_and_says_what_it_leads_to(page: Path) -> None:
    assert text(page).startswith(f"# {int(page.name[:4])}. ")
    headings = re.findall(r"^## (.+)$", text(page), flags=re.MULTILINE)
    assert headings[:2] == ["Context", "Decision"]
    assert headings[-1] == "Consequences"


def test_the_state_diagram_is_the_tables() -> None:
    page = text(diagram.PAGE)
    assert diagram.placed(page) == page, "run: python -m tests.docs.diagram"


def shown_metrics() -> dict[str, str]:
    """Every metric by the name that Prometheus sees, with its type."""
    families = Metrics("0").registry.collect()
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}


def test_every_metric_is_documented_and_no_other() -> None:
    documented = {row[0].strip("`"): row[1].partition(",")[0] for row in table(DOCS / "admin.md", "metric")}
    assert documented == shown_metrics()


def test_the_labels_of_metrics_are_documented() -> None:
    documented = {
        row[0].strip("`"): tuple(re.findall(r"`(\w+)`", row[2])) for row in table(DOCS / "admin.md", "metric")
    }
    for metric in vars(Metrics("0")).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            assert documented[name] == metric._labelnames, name


def test_the_values_of_labels_are_documented() -> None:
    rows = {row[0].strip("`"): row[2] for row in table(DOCS / "admin.md", "metric")}
    samples: dict[str, set[str]] = defaultdict(set)
    for family in Metrics("0").registry.collect():
        for sample in family.samples:
            if sample.name in rows and sample.name != "bridge_build_info":
                samples[sample.name] |= set(sample.labels.values())
    of_callbacks = {EffectKind.FETCH_FILE.value, EffectKind.FORWARD_CALLBACK.value}
    kinds = {kind.value for kind in EffectKind} - {EffectKind.HAND_OVER.value}
    samples["bridge_delivery_attempts_total"] |= kinds - of_callbacks
    samples["bridge_callback_attempts_total"] |= of_callbacks
    outcomes = {re.sub(r"(?<=.)(?=[A-Z])", "_", outcome.__name__).lower() for outcome in get_args(Outcome)}
    samples["bridge_delivery_attempts_total"] |= outcomes
    for name, values in samples.items():
        assert values <= set(re.findall(r"\w+", rows[name])), name
    assert {row[0].strip("`") for row in table(DOCS / "admin.md", "`outcome`")} == outcomes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_metric_that_is_not_there(page: Path) -> None:
    known = set(shown_metrics())
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    known |= SCENARIOS.keys()  # some of the checker's are named alike
    assert set(re.findall(r"\bbridge_[a-z_]+[a-z]", text(page))) <= known


@pytest.mark.parametrize(("code", "place"), sorted(codes().items()))
def test_every_error_code_is_documented(code: str, place: str) -> None:
    assert any(f"`{code}`" in text(page) for page in DOCS.glob("*.md")), f"{code}, of {place}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_setting_that_is_not_there(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(Settings.model_fields)})\.[a-z_]+[a-z])(?:`| = )", text(page))
    keys = every_key()
    # A secret's key has a second form, `<key>_file`; a few keys end like that themselves.
    strangers = {name for name in named if not name.endswith(".py") and name.removesuffix("_file") not in keys}
    # A contact card's document has members under `contacts` too.
    members = {f"contacts.{name}" for name in Contacts.model_fields} if page.stem.startswith("cention-") else set()
    assert strangers - members <= keys


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_file_that_is_not_there(page: Path) -> None:
    for path in re.findall(r"`((?:bridge|tests|deploy|docs|benchmarks)/[\w./-]*)`", text(page)):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"`bridge\.(\w+)(?:\.\w+)*`", text(page)):
        if f"bridge.{module}" in set(EventKind):
            continue
        assert (ROOT / "bridge" / module).is_dir() or (ROOT / "bridge" / f"{module}.py").exists(), module


def test_the_glossary_is_sorted_and_each_term_is_told_once() -> None:
    terms = [row[0] for row in table(DOCS / "glossary.md", "term")]
    assert terms == sorted(terms, key=str.casefold)
    assert len({term.casefold() for term in terms}) == len(terms)


def test_the_readme_shows_the_two_commands_and_every_other() -> None:
    page = text(ROOT / "README.md")
    assert re.findall(r"^\| `(make \w+)` \|", page, flags=re.MULTILINE) == ["make run", "make test"]
    targets = re.findall(r"^(\w+):.*## ", text(ROOT / "Makefile"), flags=re.MULTILINE)
    assert {"run", "test"} <= set(targets)
    _, _, section = page.partition("\n## Commands\n")
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == list(COMMANDS)


def test_every_library_has_its_reason() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    needed = {re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]}
    reasons = {row[0].strip("`") for row in table(DOCS / "adr" / "0002-libraries.md", "library")}
    assert reasons == needed
