"""The command: the same bytes on every machine, and nothing written over."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from recipe.corpus.__main__ import main
from recipe.corpus.chats import bound, chat, plain, recalled

# What `written` makes, all files in the order of their names. A change of any word changes it.
DIGEST = "86f5d2529efa3d7dba77857c3573fa2d22ba31988dc359d48b4c839b8e8175f8"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "out"
    sizes = ["--stories", "40", "--chats", "200", "--recalls", "60"]
    sizes += ["--bindings", "50", "--readings", "20"]
    assert main(["--out", str(out), "--seed", "7", *sizes]) == 0
    return out


def test_a_corpus_is_the_same_bytes_everywhere(written: Path) -> None:
    whole = hashlib.sha256()
    for path in sorted(written.iterdir()):
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    assert whole.hexdigest() == DIGEST


def test_the_files_are_those_that_the_recipe_names(written: Path) -> None:
    assert [path.name for path in sorted(written.iterdir())] == [
        "bindings-000.jsonl",
        "chats-000.jsonl",
        "held-out-chats.jsonl",
        "held-out-stories.jsonl",
        "held-out.txt",
        "readings-000.jsonl",
        "recalls-000.jsonl",
        "skills.jsonl",
        "stories-000.jsonl",
        "tokenizer.jsonl",
    ]
    assert len((written / "stories-000.jsonl").read_text().splitlines()) == 40
    assert len((written / "chats-000.jsonl").read_text().splitlines()) == 200
    assert len((written / "recalls-000.jsonl").read_text().splitlines()) == 60
    assert len((written / "bindings-000.jsonl").read_text().splitlines()) == 50
    assert len((written / "readings-000.jsonl").read_text().splitlines()) == 20


def test_the_tokenizer_meets_no_word_in_capitals(written: Path) -> None:
    """A merge of capitals would hide the letters of words that are to be spelled."""
    texts = [
        json.loads(line)["text"] for line in (written / "tokenizer.jsonl").read_text().splitlines()
    ]
    assert len(texts) > 300
    assert not [text for text in texts if re.search("[A-Z]{2}|[A-Z]-[A-Z]", text)]
    assert re.search("[A-Z]{3}", (written / "chats-000.jsonl").read_text())


def test_an_item_depends_on_its_number_alone(written: Path) -> None:
    """So a corpus may be made longer, and in parts."""
    chats = [json.loads(line) for line in (written / "chats-000.jsonl").read_text().splitlines()]
    assert chats[123] == chat(7, 123)
    stories = (written / "stories-000.jsonl").read_text().splitlines()
    assert json.loads(stories[31]) == plain(7, 31)


def test_another_seed_gives_another_text() -> None:
    assert [plain(1, n) for n in range(5)] != [plain(2, n) for n in range(5)]


def test_a_chat_is_turns_of_user_and_model_in_plain_letters() -> None:
    for number in range(500):
        messages = chat(3, number)["messages"]
        roles = [each["role"] for each in messages]
        assert roles == ["user", "assistant"] * (len(messages) // 2)
        for each in messages:
            text = each["content"]
            assert text.isascii()
            assert text == text.strip() != ""
            assert "{" not in text
            assert "  " not in text


def test_words_to_look_back_for_were_said_before() -> None:
    """Each word of an answer stands in what the chat said until then."""
    chats = [make(3, number) for make in (recalled, bound) for number in range(300)]
    for chat_ in chats:
        before = ""
        for each in chat_["messages"]:
            if each["role"] == "assistant":
                words = re.findall(r"[a-z]+", each["content"].lower())
                assert words
                assert not set(words) - set(re.findall(r"[a-z]+", before.lower())), each
            before += " " + each["content"]


def test_a_folder_that_is_there_is_not_written_into(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(written), "--stories", "1", "--chats", "1"])
    assert "cannot make the folder" in capsys.readouterr().err
