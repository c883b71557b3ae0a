"""Every program of `examples/` runs as a user runs it, and does what it says.

The model is mostly a generated one, whose words mean nothing: what is tested is that answers are
the model's own and that numbers add up. The applications have their tests in
`test_examples_embedding.py`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params

from .running import EXAMPLES, TRAINED, answer, imported, inside, rows_of, run


def test_all_are_listed_and_tested() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_examples*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert f"`{path.name}`" in listed
        assert f"def test_{path.stem}(" in tests or f"def test_{path.stem}_" in tests
        assert f"examples/{path.name} MODEL" in path.read_text(), "it shows how it is run"


PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "notebook")


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unknown_model_is_one_line(name: str, tmp_path: Path) -> None:
    """Except in the notebook, whose cells show what happens as it happens."""
    rows, table = tmp_path / "rows.jsonl", tmp_path / "table.csv"
    rows.write_text('{"prompt": "x"}\n')
    table.write_text("a\n1\n")
    needed = {
        "batch": [rows],
        "batch_job": [rows, tmp_path / "out"],
        "data_analysis": [table],
        "embeddings": ["x"],
        "question_answering": ["x"],
    }
    said = inside(name, "no-such-model", *needed.get(name, []))
    assert "error: no model is named 'no-such-model'" in said


NO_TEXT = b"a,gr\xfcn\n1,2\n"


@pytest.mark.parametrize("name", ["batch", "data_analysis", "embeddings"])
def test_a_file_that_is_no_text_is_one_line(name: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "latin1"
    path.write_bytes(NO_TEXT)
    args = ["query", "--file", path] if name == "embeddings" else [path]
    assert inside(name, folder, *args).startswith("error: 'utf-8' codec can't decode byte 0xfc")


@pytest.mark.parametrize(
    "name", ["code_completion", "conversation", "language_detection", "question_answering"]
)
def test_a_pipe_that_is_no_text_is_one_line(name: str, folder: Path) -> None:
    args = ["Who?"] if name == "question_answering" else []
    said = inside(name, folder, *args, stdin=NO_TEXT)
    assert said.startswith("error: 'utf-8' codec can't decode byte 0xfc")


def test_generation(folder: Path, model: Loaded) -> None:
    said = run("generation", folder, "Once upon", "--max-tokens", 20)
    assert said == ("Once upon" + answer(model, "Once upon", 20) + "\n").replace("\r", "\n")
    sampled = [folder, "Once upon", "--max-tokens", 20, "--temperature", 1.5, "--seed", 3]
    assert inside("generation", *sampled) == inside("generation", *sampled) != said
    assert "does nothing at temperature 0" in inside("generation", folder, "--top-p", 0.5)


def test_document_classification(folder: Path, model: Loaded) -> None:
    text = "The dog barked."
    said = json.loads(run("document_classification", folder, "--text", text, "--labels", "a", "bb"))
    example = imported(EXAMPLES / "document_classification.py")

    def likelihood(before: str, after: str) -> float:
        """Token by token, each asked for alone."""
        total, tokens = 0.0, model.tokenizer.encode(before + after)
        for place in range(len(model.tokenizer.encode(before)), len(tokens)):
            request = model.request("x", Params(max_tokens=1, logprobs=20, prompt_logprobs=0))
            request = type(request)(request.id, tuple(tokens[: place + 1]), request.params)
            result = model.engine.generate(request)
            total += result.prompt_logprobs[-1].logprob
        return total

    gains = {
        label: likelihood(text + example.QUESTION, f" {label}")
        - likelihood(example.QUESTION.strip(), f" {label}")
        for label in ("a", "bb")
    }
    odds = math.exp(gains["a"] - gains["bb"])
    assert said["shares"]["a"] / said["shares"]["bb"] == pytest.approx(odds, rel=1e-4)
    assert sum(said["shares"].values()) == pytest.approx(1)
    assert said["label"] == max(said["shares"], key=said["shares"].get)


def test_language_detection(folder: Path) -> None:
    texts = ["Where is my red ball?", "Wo ist mein roter Ball?"]
    rows = [json.loads(line) for line in run("language_detection", folder, *texts).splitlines()]
    assert [row["text"] for row in rows] == texts
    for row in rows:
        assert set(row["shares"]) == {"English", "French", "German", "Italian", "Spanish"}
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert row["language"] == max(row["shares"], key=row["shares"].get)
    assert rows[0]["shares"] != rows[1]["shares"]
    piped = inside("language_detection", folder, stdin="\n".join(texts))
    assert [json.loads(line)["language"] for line in piped.splitlines()] == [
        row["language"] for row in rows
    ]


def test_question_answering(folder: Path, model: Loaded) -> None:
    example = imported(EXAMPLES / "question_answering.py")
    prompt = example.PROMPT.format(passage="Tim had a ball.", question="Who?")
    args = [folder, "Who?", "--passage", "Tim had a ball.", "--max-tokens", 8]
    said = json.loads(run("question_answering", *args))
    assert said["answer"] == (answer(model, prompt, 8, ("\n",)).strip() or None)
    assert 0 < said["probability"] < 1
    unsure = json.loads(inside("question_answering", *args, "--sure", 1))
    assert unsure == {"answer": None, "probability": said["probability"]}


def test_code_completion(folder: Path) -> None:
    example = imported(EXAMPLES / "code_completion.py")
    begun = "def add(a, b):\n"
    finished = "    return a + b\n\nprint(add(1, 2)\nx ="
    assert example.longest_that_parses(begun, finished) == begun + "    return a + b\n\n"
    assert example.longest_that_parses(begun, "    return (((\n") is None
    # A comment may be followed by anything at all, so that even noise is Python.
    said = run("code_completion", folder, "--code", "x = 1  # ", "--max-tokens", 5)
    assert said.startswith("x = 1  # ")
    failed = inside("code_completion", folder, "--code", "def (", "--attempts", 2)
    assert "none of 2 completions was Python" in failed


def test_conversation(folder: Path, model: Loaded) -> None:
    chat = [folder, "--temperature", 0, "--max-tokens", 6]
    said = run("conversation", *chat, stdin="Hello\n\n")
    stop = ("\nUser:", "\nAssistant:")
    assert said.startswith("> " + answer(model, "User: Hello\nAssistant:", 6, stop)[:3])
    assert inside("conversation", *chat, stdin="Hello\nAgain\n").count("> ") == 3
    # The oldest turns go before the context of 512 bytes is full.
    long = "\n".join(f"{n} " + "word " * 12 for n in range(12))
    assert inside("conversation", *chat, stdin=long).count("> ") == 13


def test_conversation_in_the_models_own_words(folder: Path, tmp_path: Path) -> None:
    """By its template, which says where a text begins: the tokenizer must not say it again."""
    own = tmp_path / "own"
    own.mkdir()
    for path in folder.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    words = {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer = json.loads((own / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, words],
        "pair": [begin, words, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
    }
    (own / "tokenizer.json").write_text(json.dumps(tokenizer))
    template = "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    (own / "chat_template.jinja").write_text(template)
    with load(own, plugins=Plugins.load()) as model:
        request = model.request("[system]Be kind[user]Hello[assistant]", Params(max_tokens=6))
        assert request.prompt[0] == 256
        expected = model.engine.generate(request).choices[0].text
    chat = [own, "--temperature", 0, "--max-tokens", 6, "--system", "Be kind"]
    said = inside("conversation", *chat, stdin="Hello\n\n")
    assert said == f"> {expected}\n> "


def test_data_analysis(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "sales.csv"
    table.write_text("city,apples,pears\nRome,1,2.5\nOslo,3,2.5\nLima,8,1\n")
    rows = rows_of(run("data_analysis", folder, table))
    assert [row["column"] for row in rows] == ["apples", "pears"]
    assert {key: rows[0][key] for key in ("count", "mean", "median", "lowest", "highest")} == {
        "count": 3, "mean": 4, "median": 3, "lowest": 1, "highest": 8
    }  # fmt: skip
    assert rows[1]["change from first to last"] == -1.5
    example = imported(EXAMPLES / "data_analysis.py")
    assert example.invented("between 1 and 8, about 4.5", {"a": 1.0, "b": 8.0}) == ["4.5"]
    table.write_text("city\nRome\n")
    assert "no column of numbers" in inside("data_analysis", folder, table)


def test_batch(folder: Path, model: Loaded, tmp_path: Path) -> None:
    prompts = [f"Once upon {n}" for n in range(20)]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    said = run("batch", folder, tmp_path / "prompts.txt", "--max-tokens", 6, "--batch-size", 7)
    expected = [{"prompt": text, "text": answer(model, text, 6)} for text in prompts]
    assert rows_of(said) == expected


def test_embeddings(folder: Path, tmp_path: Path) -> None:
    texts = ["The cat wanted its milk.", "It rained all day.", "zzzz"]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    said = run("embeddings", folder, texts[1], "--file", tmp_path / "texts.txt")
    rows = [json.loads(line) for line in said.splitlines()]
    assert rows[0] == {"similarity": 1.0, "text": texts[1]}
    similarities = [row["similarity"] for row in rows]
    assert similarities == sorted(similarities, reverse=True)
    assert all(-1 <= one < 1 for one in similarities[1:])
    assert len(inside("embeddings", folder, "a hungry kitten").splitlines()) == 5


def test_embeddings_find_what_is_meant(tmp_path: Path) -> None:
    """With the trained model: of five kinds of sentences the nearest is of the query's kind."""
    kinds = {
        "4 + 4 = 8.": "2 + 3 = 5.",
        "After Friday comes Saturday.": "After Monday comes Tuesday, then Wednesday.",
        "The opposite of big is small.": "The opposite of wet is dry.",
        "Kim sees a red dog. The dog says woof.": "Ben sees a black cat. The cat says meow.",
        "Count from 10 to 12: 10 11 12.": "Count from 3 to 7: 3 4 5 6 7.",
    }
    example = imported(EXAMPLES / "embeddings.py")
    with load(TRAINED, plugins=Plugins.load()) as model:
        for query, text in kinds.items():
            assert example.nearest(model, query, list(kinds.values()))[0][1] == text


def test_notebook(folder: Path, model: Loaded) -> None:
    lines = run("notebook", folder).splitlines()
    assert lines[0].startswith("tiny on ")
    shares = [float(line.split("%")[0]) for line in lines[1:6]]
    assert shares == sorted(shares, reverse=True)
    choice = model.engine.generate(
        model.request("Once upon a time there was a little", Params(max_tokens=1, logprobs=0))
    ).choices[0]
    assert shares[0] == pytest.approx(100 * math.exp(choice.logprob), abs=0.1)
    assert sum(line.startswith("- ") for line in lines) == 3
    assert inside("notebook") == "usage: python examples/notebook.py MODEL"
