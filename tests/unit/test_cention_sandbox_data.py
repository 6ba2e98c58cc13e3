"""What a sandbox can be given: read from files, checked as a whole; and the store that forgets."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bridge.cention.sandbox.bounded import Bounded
from bridge.cention.sandbox.data import DATA_BYTES_MAX, Data, example, load


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def library(**parts: Any) -> dict[str, Any]:
    return {"library": parts}


def test_the_content_of_a_file_is_told_in_three_ways(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "map.png").write_bytes(b"\x89PNG")
    files = [
        {"id": 1, "name": "a", "text": "Å"},
        {"id": 2, "name": "b", "content": "QQ=="},
        {"id": 3, "name": "c", "content_type": "image/png", "file": "files/map.png"},
        {"id": 4, "name": "d"},
    ]
    data = load(written(tmp_path, {"library": {"attachments": files, "archives": files[2:3]}}))
    contents = [base64.b64decode(file.base64) for file in data.library.attachments]
    assert contents == ["Å".encode(), b"A", b"\x89PNG", b""]
    assert base64.b64decode(data.library.archives[0].base64) == b"\x89PNG"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ({"libary": {}}, "libary: is not known"),
        (library(libraries=[{"id": "1", "name": "a"}]), "library/libraries/0/id: Input should be a valid integer"),
        (library(libraries=[{"id": 1}]), "library/libraries/0/name: is missing"),
        (library(libraries=[{"id": 1, "name": "a", "questions": [2]}]), "library 1 names 2, which is not in questions"),
        (
            library(categories=[{"id": 1, "name": "a", "libraries": [2]}]),
            "category 1 names 2, which is not in libraries",
        ),
        (library(questions=[{"id": 1, "attachments": [2]}]), "question 1 names 2, which is not in attachments"),
        (library(questions=[{"id": 1}, {"id": 1}]), "questions has the id 1 2 times"),
        (library(archives=[{"id": 1, "name": "a", "content": "?"}]), "library/archives/0/content: must be base64"),
        (library(archives=[{"id": 1, "name": "a", "text": "", "content": ""}]), "give one of content, text"),
        ({"exports": [{"id": 316}]}, "exports/0/id: Input should be a valid string"),
        ({"logio": [{"name": "a", "action": "Away"}]}, "logio/0/action: Input should be 'Login' or 'Logout'"),
        ({"ratings": [{"rating": 1}]}, "ratings/0/ratingId: is missing"),
    ],
    ids=str,
)
def test_what_can_not_be_used_is_told_with_its_place(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        load(written(tmp_path, content))


def test_every_fault_is_told(tmp_path: Path) -> None:
    wrong = {"exports": [{"id": 1}, {"id": ""}], "logio": [{}]}
    with pytest.raises(ValueError, match="exports/0/id") as raised:
        load(written(tmp_path, wrong))
    assert len(str(raised.value).splitlines()) == 4


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.json")
    path = written(tmp_path, {"library": {"archives": [{"id": 1, "name": "a", "file": "away.png"}]}})
    with pytest.raises(FileNotFoundError):
        load(path)


def test_files_are_bounded_together(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(DATA_BYTES_MAX)
    files = [{"id": number, "name": "a", "file": "large"} for number in (1, 2)]
    with pytest.raises(ValueError, match="together"):
        load(written(tmp_path, {"library": {"archives": files}}))


def test_the_answer_of_logio_and_the_sample_of_a_rating_can_be_given_back() -> None:
    Data.model_validate_json(json.dumps({"logio": [{"id": 1, "name": "a", "timestamp": 1, "action": "Login"}]}))
    rating = json.loads((Path(__file__).parents[1] / "fixtures/cention/facebook_rating.response.json").read_text())
    told = {"ratings": [rating["data"]["attributes"]["data"]]}
    assert Data.model_validate_json(json.dumps(told)).ratings[0].rating == 5


def test_the_example_is_usable_and_small() -> None:
    data = example()
    assert data.library.libraries
    assert data.exports[0].content is None
    assert len(data.model_dump_json()) < 8192


def test_the_oldest_are_forgotten() -> None:
    store: Bounded[int, str] = Bounded(count_max=3, size_max=10)
    assert [store.put(number, str(number), 1) for number in range(4)] == [[], [], [], ["0"]]
    assert (list(store), list(reversed(store)), len(store)) == (["1", "2", "3"], ["3", "2", "1"], 3)
    assert store.put(2, "two", 10) == ["1", "3"], "a replaced entry stays, and what is left fits"
    assert store.put(5, "five", 100) == ["two"]
    assert (list(store), store.get(5), store.get(2)) == (["five"], "five", None)
    store.clear()
    assert (list(store), store.put(6, "six", 10)) == ([], [])
