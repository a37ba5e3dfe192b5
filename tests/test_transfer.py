"""Models that begin with vectors of words: what the benchmark of transfer is made of, and ``lm train --vectors``."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks import bench_transfer as transfer
from cli_cases import TINY, fails, folder_fixture, run  # noqa: F401

from minigrad import nn
from minigrad.errors import UserError
from minigrad.models import LanguageModel, WordVocabulary
from minigrad.models.embed.formats import write_vectors
from minigrad.models.embed.vectors import WordVectors

PRAISE = [(["Good", "film", "!"], 1), (["bad"], 0), (["a", "BAD", "1"], 0), (["good"], 1), (["a", "good", "one"], 1)]
NAMES = [
    (["In", "New", "York"], ["O", "B-location", "I-location"]),
    (["no"], ["O"]),
    (["Ann", "ran"], ["B-person", "O"]),
]
VOCABULARY = WordVocabulary(["a", "bad", "good", "in", "york"], "spaces")


def reader(tagged, classes, freeze=False):
    vectors = WordVectors(VOCABULARY.words[2:], np.random.default_rng(0).standard_normal((5, 4)))
    layer, _ = vectors.embedding(VOCABULARY, freeze=freeze, generator=0)
    return transfer.Reader(layer, classes, tagged, hidden=3, generator=0)


@pytest.mark.parametrize("tagged", [False, True])
def test_neither_padding_nor_the_others_of_a_batch_change_an_answer(tagged):
    part, labels = (NAMES, ["O", "B-location", "I-location", "B-person"]) if tagged else (PRAISE, [0, 1])
    model = reader(tagged, len(labels)).eval()
    (words, marks, lengths, _), _ = transfer.Labelled(part, VOCABULARY, labels)(0)
    whole = model(words, marks, lengths).numpy()
    words[np.arange(len(words))[:, None] >= lengths] = 3  # other padding
    order = np.argsort(lengths, kind="stable")
    other = model(words[:, order], marks[:, order], lengths[order]).numpy()
    for place, b in enumerate(order):
        n = lengths[b]
        if n:
            alone = model(words[:n, [b]], marks[:n, [b]], lengths[[b]]).numpy()
            at = slice(0, n) if tagged else slice(None)
            a, c, d = (x[at, i] if tagged else x[i] for x, i in ((whole, b), (other, place), (alone, 0)))
            np.testing.assert_allclose(c, a, atol=1e-6)
            np.testing.assert_allclose(d, a, atol=1e-6)


@pytest.mark.parametrize("tagged", [False, True])
def test_labels_stand_where_their_words_stand(tagged):
    part, labels = (NAMES, ["O", "B-location", "I-location", "B-person"]) if tagged else (PRAISE, [0, 1])
    data = transfer.Labelled(part, VOCABULARY, labels, batch=2, seed=3)

    class Knows:
        embedding = None

        def __call__(self, words, marks, lengths):  # the label itself, as logits
            (_, _, _, own), _ = data(self.step)
            self.step += 1
            return nn.Parameter(np.eye(len(labels), dtype=np.float32)[np.maximum(own, 0)])

        step = 0
        eval = train = lambda self: self

    model = Knows()
    model.tagged = tagged
    np.testing.assert_array_equal(transfer.Reader.predict(model, data), data.labels)
    assert set(transfer.scores(data, data.labels, labels).values()) == {100.0}


def test_a_frozen_table_stays_and_another_learns():
    for freeze in (True, False):
        model = reader(False, 2, freeze)
        before = model.embedding.weight.numpy().copy()
        recipe = transfer.Recipe(batch=2, lr=0.01, steps=5)
        for _ in transfer.Trainer(model, transfer.Labelled(PRAISE, VOCABULARY, [0, 1], batch=2), (), recipe):
            pass
        assert np.array_equal(model.embedding.weight.numpy(), before) == freeze


def test_one_step_of_each_start():
    task = transfer.Task(PRAISE * 4, PRAISE, PRAISE, tagged=False)
    vectors = WordVectors(["good", "bad", "nice"], np.eye(3, 4))
    for start in transfer.STARTS:
        best, found, words = transfer.learn(task, vectors, start, 0.01, seed=1)
        assert 0 <= best <= 100 and set(found) == {"accuracy"}
    assert "2 of 7 words" in words


def test_entities_count_only_whole_and_of_the_right_kind():
    edges = np.array([0, 3, 5])
    spans = transfer.spans
    assert spans(["B-a", "I-a", "I-b", "I-b", "O"], edges) == {(0, 2, "a"), (2, 3, "b"), (3, 4, "b")}
    assert spans(["O"] * 5, edges) == set()
    data = transfer.Labelled(NAMES, VOCABULARY, ["O", "B-location", "I-location", "B-person"])
    found = transfer.scores(data, np.array([0, 1, 0, 0, 3, 0]), ["O", "B-location", "I-location", "B-person"])
    assert found == {"F1": 50.0, "accuracy": pytest.approx(100 * 5 / 6)}


def test_files_are_read_and_bad_lines_named(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("Good\x85 film!\t1\n\nNot good.  \t0\n", encoding="utf-8")
    assert list(transfer.read_sentences(file)) == [(["Good", "film", "!"], 1), (["Not", "good", "."], 0)]
    for bad in ("no label", "\t1", "what?\tgood"):
        file.write_text(f"fine\t1\n{bad}\n")
        with pytest.raises(UserError, match=r"x\.txt.*line 2: "):
            list(transfer.read_sentences(file))
    file.write_text("In\tO\nYork\tB-location\n\t\nno\tO\n")
    assert list(transfer.read_columns(file)) == [(["In", "York"], ["O", "B-location"]), (["no"], ["O"])]
    for bad in ("York", "York\tlocation", "\tO"):
        file.write_text(f"In\tO\n\n{bad}\n")
        with pytest.raises(UserError, match=r"x\.txt.*line 3: "):
            list(transfer.read_columns(file))


def test_without_data_the_benchmark_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.delenv("TRANSFER_DATA", raising=False)
    transfer.main()
    assert "set TRANSFER_DATA" in capsys.readouterr().out


# ---------------------------------------------------------------- lm train --vectors

WORDS = ["lm", "train", "--text", "text.txt", "--level", "word", "--tokens", "spaces", *TINY, "--out", "w.safetensors"]


def test_a_language_model_begins_with_vectors(folder):
    write_vectors("v.txt", WordVectors(["the", "cat", "nowhere"], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    result = run(*WORDS, "--embedding", 3, "--vectors", "v.txt", "--steps", 1, "--lr", 1e-9)
    assert "vectors v.txt: 2 of " in result.stderr
    model = LanguageModel.load("w.safetensors")
    np.testing.assert_allclose(model.embedding([model.vocabulary.words.index("cat")]).numpy(), [[4, 5, 6]], atol=1e-6)
    assert "--vectors v.txt" in fails("lm", "train", "--resume", "w.safetensors", "--text", "text.txt",
                                      "--vectors", "v.txt")  # fmt: skip


def test_vectors_that_do_not_fit_are_refused(folder):
    write_vectors("v.txt", WordVectors(["the", "cat"], [[1, 2, 3], [4, 5, 6]]))
    said = fails(*WORDS, "--embedding", 4, "--vectors", "v.txt", "--steps", 1)
    assert "3 numbers a word" in said and "set --embedding 3" in said
    assert "--level word" in fails("lm", "train", "--text", "text.txt", *TINY, "--vectors", "v.txt", "--steps", 1)
    assert not Path("w.safetensors").exists()
