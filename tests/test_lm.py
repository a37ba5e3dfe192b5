"""The language model as a library: its text, its figures, its samples, its files, its training loop."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import UserError
from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel, Recipe, Trainer
from minigrad.models.language_model import draw
from minigrad.models.text import Text, Windows, columns, default_text, read_text

TEXT = "the cat sat on the mat, and the dog saw the cat.\n" * 20
SMALL = LanguageConfig(hidden=12, embedding=6)
RECIPE = Recipe(batch=3, window=7, steps=6)


def make(config=SMALL, text=TEXT, seed=0):
    return LanguageModel(config, CharVocabulary.of(text), generator=seed)


def make_trainer(recipe=RECIPE, config=SMALL):
    model = make(config, seed=recipe.seed)
    batches = Windows(model.vocabulary.encode(TEXT), recipe.batch, recipe.window, recipe.reset)
    return Trainer(model, batches, model.initial_state(recipe.batch), recipe)


def log_probabilities(model, text):
    """log p of each character, from one forward pass of everything before it."""
    ids = np.append(model.vocabulary.start, model.vocabulary.encode(text))
    logits = model(ids[:-1, None])[0].numpy()[:, 0].astype(np.float64)  # (T, V)
    logits -= logits.max(-1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logp[np.arange(len(text)), ids[1:]]


# ------------------------------------------------------------------------------------------------ text


def test_a_vocabulary_is_a_bijection_and_survives_json():
    v = CharVocabulary.of("naïve 東京 🎈\n")
    assert v.decode(v.encode("🎈 東京")) == "🎈 東京"
    again = CharVocabulary.from_json("here", json.loads(json.dumps(v.to_json())))
    assert again.symbols == v.symbols
    assert v.symbols[v.start] == "\n"


@pytest.mark.parametrize(
    ("text", "named"), [("abXc", "'X' (U+0058) at position 2"), ("\udc80", "U+DC80"), ("ab€", "'€'")]
)
def test_an_unknown_character_is_named(text, named):
    with pytest.raises(UserError, match=r"expected one of the 3 characters") as error:
        CharVocabulary.of("abc").encode(text)
    assert named in str(error.value)


def test_windows_cover_each_stream_in_order():
    ids = np.arange(3 * 10 + 5)
    windows = Windows(ids, batch=3, window=4, reset=0)
    assert windows.per_epoch == 2
    seen = [windows(step) for step in range(5)]
    assert [fresh.tolist() for _, fresh in seen] == [[k % 2 == 0] * 3 for k in range(5)]
    for (inputs, targets), _ in seen:
        np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(np.concatenate([seen[0][0][0], seen[1][0][0]])[:, 1], np.arange(11, 19))
    inputs, targets = columns(ids, 1)
    assert inputs.shape == targets.shape == (34, 1)


def test_streams_begin_anew_by_turns():
    windows = Windows(np.arange(4 * 40 + 1), batch=4, window=4, reset=5)
    fresh = np.array([windows(step)[1] for step in range(20)])  # (steps, B): two epochs of ten
    assert fresh[0].all() and fresh[10].all() and not fresh[1:10].all(-1).any()
    for b in range(4):
        assert np.diff(np.flatnonzero(fresh[1:10, b])).tolist() in ([], [5])
    model = make()
    state = tuple(mg.tensor(np.ones((1, 4, 12), np.float32)) for _ in "hc")
    h, c = model.reset(state, fresh[1])
    np.testing.assert_array_equal(h.numpy()[0, :, 0], ~fresh[1])
    np.testing.assert_array_equal(h.numpy(), c.numpy())


def test_line_ends_and_byte_order_marks_are_read_away(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo\r".encode())
    assert read_text(path) == Text("windows.txt", "one\ntwo\n")


def test_the_default_text_is_english_and_the_same_every_time():
    text = default_text()
    assert text == default_text() and len(text.content) > 300_000 and " the " in text.content
    train, held_out = text.parts()
    assert train + held_out == text.content and 0.09 < len(held_out) / len(text.content) < 0.11


# ------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layers", [1, 2])
def test_one_stream_in_windows_equals_one_window(cell, layers):
    model = make(replace(SMALL, cell=cell, layers=layers))
    ids = model.vocabulary.encode(TEXT[:200])
    whole = model.evaluate(ids, window=1000)
    for window in (1, 7, 199):
        assert model.evaluate(ids, window=window) == pytest.approx(whole, rel=1e-6)
    by_hand = model.loss(ids[:-1, None], ids[1:, None], model.initial_state(1))[0].item()
    assert whole == pytest.approx(by_hand, rel=1e-6)


def test_streams_are_the_mean_of_their_own_evaluations():
    model, n = make(), 60
    ids = model.vocabulary.encode(TEXT[: 3 * n + 1])
    apart = [model.evaluate(ids[k * n : (k + 1) * n + 1]) for k in range(3)]
    assert model.evaluate(ids, streams=3, window=11) == pytest.approx(np.mean(apart), rel=1e-6)


def test_a_score_is_the_sum_of_its_characters():
    model = make()
    for text in ("the cat", "t", "\n\n", TEXT[:300]):
        assert model.score(text) == pytest.approx(log_probabilities(model, text).sum(), rel=1e-5)
    assert model.score("") == 0.0


def test_scores_of_all_continuations_sum_to_one():
    model = make()
    total = sum(math.exp(model.score("the c" + c) - model.score("the c")) for c in model.vocabulary.symbols)
    assert total == pytest.approx(1.0, abs=1e-5)


def test_dropout_is_for_training_only():
    model = make(replace(SMALL, dropout=0.5, layers=2))
    ids = model.vocabulary.encode(TEXT[:50])
    before = model.generator.bit_generator.state
    assert model.evaluate(ids) == model.evaluate(ids)
    list(model.sample(5, generator=0))
    assert model.generator.bit_generator.state == before and model.training
    a, b = (model.loss(ids[:-1, None], ids[1:, None])[0].item() for _ in range(2))
    assert a != b


def test_tied_weights_are_one_parameter(tmp_path):
    model = make(LanguageConfig(hidden=8, embedding=8, tied=True))
    assert model.output.weight is model.embedding.weight
    assert len(model.parameters()) == 5
    model.save(tmp_path / "tied.safetensors")
    again = LanguageModel.load(tmp_path / "tied.safetensors")
    assert again.output.weight is again.embedding.weight
    assert again.score("the cat") == model.score("the cat")


# ------------------------------------------------------------------------------------------------ samples


def test_samples_repeat_by_seed_and_never_leave_a_mode_behind():
    model = make()
    characters = model.sample(20, generator=3)
    first = next(characters)
    assert (mg.tensor(1.0, requires_grad=True) * 2.0).requires_grad  # recording, in the middle of a sample
    text = first + "".join(characters)
    assert len(text) == 20 and set(text) <= set(model.vocabulary.symbols)
    assert text == "".join(model.sample(20, generator=3)) != "".join(model.sample(20, generator=4))
    assert list(model.sample(0)) == []


def test_temperature_zero_is_the_likeliest_at_every_step():
    model = make()
    text = "the " + "".join(model.sample(10, temperature=0, prompt="the "))
    ids = model.vocabulary.encode(text)
    logits = model(ids[:-1, None])[0].numpy()[3:, 0]  # behind the prompt
    np.testing.assert_array_equal(logits.argmax(-1), ids[4:])
    assert text == "the " + "".join(model.sample(10, temperature=1e-300, prompt="the ", generator=0))


def test_draws_follow_the_distribution():
    rng, p = np.random.default_rng(0), np.array([0.1, 0.0, 0.6, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.log(p).astype(np.float32)
    counts = np.bincount([draw(logits, 1.0, rng) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, p, atol=0.03)
    assert counts[1] == 0
    flat = np.bincount([draw(logits[[0, 2]], 1e9, rng) for _ in range(2000)]) / 2000
    np.testing.assert_allclose(flat, 0.5, atol=0.05)


@pytest.mark.parametrize("temperature", [-1.0, math.nan, math.inf])
def test_nonsense_is_refused_before_the_first_character(temperature):
    with pytest.raises(UserError, match="temperature"):
        make().sample(5, temperature)
    with pytest.raises(UserError, match="length"):
        make().sample(-1)
    with pytest.raises(UserError, match="prompt.*'Z'"):
        make().sample(5, prompt="Z")


# ------------------------------------------------------------------------------------------------ files


def test_a_loaded_model_is_the_saved_one(tmp_path):
    for cell in ("lstm", "gru", "rnn"):
        model = make(replace(SMALL, cell=cell, layers=2))
        model.save(tmp_path / "m.safetensors")
        again = LanguageModel.load(tmp_path / "m.safetensors")
        assert again.config == model.config and again.vocabulary.symbols == model.vocabulary.symbols
        for name, p in model.state_dict().items():
            np.testing.assert_array_equal(again.state_dict()[name], p)


def test_a_model_with_nan_is_not_saved(tmp_path):
    model = make()
    model.save(tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    model.output.bias.data[0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        model.save(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def _forge(path, change):
    """A checkpoint whose meta was edited by hand."""
    tensors, meta = nn.read(path)
    change(tensors, meta)
    nn.write(path, tensors, meta)


def _set(*keys, value):
    def change(tensors, meta):
        for key in keys[:-1]:
            meta = meta[key]
        meta[keys[-1]] = value

    return change


HOSTILE = {
    "hidden of a billion": _set("config", "hidden", value=10**9),
    "hidden beside the tensors": _set("config", "hidden", value=999_999),
    "hidden NaN": _set("config", "hidden", value=math.nan),
    "hidden true": _set("config", "hidden", value=True),
    "hidden text": _set("config", "hidden", value="12"),
    "hidden negative": _set("config", "hidden", value=-12),
    "dropout NaN": _set("config", "dropout", value=math.nan),
    "dropout 1": _set("config", "dropout", value=1),
    "layers of a thousand": _set("config", "layers", value=1000),
    "cell unknown": _set("config", "cell", value="os.system"),
    "cell another": _set("config", "cell", value="gru"),
    "cell a list": _set("config", "cell", value=["lstm"]),
    "tied": _set("config", "tied", value=True),
    "config missing": _set("config", value=None),
    "config of other fields": _set("config", value={"width": 3}),
    "class another": _set("class", value="Seq2Seq"),
    "class a list": _set("class", value=[]),
    "vocabulary missing": _set("vocabulary", value=None),
    "vocabulary of numbers": _set("vocabulary", "symbols", value=[1, 2]),
    "vocabulary too short": _set("vocabulary", "symbols", value="ab"),
    "vocabulary repeated": _set("vocabulary", "symbols", value="aab"),
    "vocabulary of halves": _set("vocabulary", "symbols", value="".join(map(chr, range(0xD800, 0xD80F)))),
    "vocabulary of another kind": _set("vocabulary", "kind", value="words"),
    "a tensor missing": lambda t, m: t.pop("output.bias"),
    "a tensor more": lambda t, m: t.update(extra=np.zeros(3)),
    "a tensor of another shape": lambda t, m: t.update({"output.bias": np.zeros((3, 3), np.float32)}),
    "no tensors": lambda t, m: t.clear(),
    "NaN": lambda t, m: t["output.bias"].__setitem__(0, np.nan),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_a_clear_error(tmp_path, name):
    path = tmp_path / "m.safetensors"
    make().save(path)
    _forge(path, HOSTILE[name])
    with pytest.raises(UserError, match=r"m\.safetensors"):
        LanguageModel.load(path)


def _other_program(path):
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, np.float32)}, path, {"format": "pt"})


def _recursive(path):
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, np.float32)}, path, {"format": "minigrad-1", "meta": "[" * 100_000})


FOREIGN = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "truncated header": lambda path: path.write_bytes(path.with_name("good").read_bytes()[:50]),
    "truncated data": lambda path: path.write_bytes(path.with_name("good").read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.with_name("good").read_bytes() + b"x"),
    "text": lambda path: path.write_text("not a model\n" * 100),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"hidden": 3})),
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "huge header": lambda path: path.write_bytes(b"\xff" * 8 + b"{}"),
    "another program": _other_program,
    "nested JSON": _recursive,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_a_clear_error(tmp_path, name):
    path = tmp_path / "m.safetensors"
    make().save(tmp_path / "good")
    FOREIGN[name](path)
    with pytest.raises(UserError, match=r"m\.safetensors"):
        LanguageModel.load(path)


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_training_learns_and_repeats(cell):
    recipe, config = replace(RECIPE, steps=150, warmup=10, lr=0.02), replace(SMALL, cell=cell)
    a, b = make_trainer(recipe, config), make_trainer(recipe, config)
    losses = [step.loss for step in a]
    assert losses[0] > 2.5 and np.mean(losses[-10:]) < 1.2
    assert losses == [step.loss for step in b]
    assert len(losses) == 150 and a.progress == 1.0 and list(a) == []


def test_a_training_cut_anywhere_goes_on_identically():
    config = replace(SMALL, layers=2, dropout=0.3)
    recipe = replace(RECIPE, steps=9)
    whole = make_trainer(recipe, config)
    list(whole)
    for cut in (1, 4, 8):
        first = make_trainer(recipe, config)
        steps = iter(first)
        for _ in range(cut):
            next(steps)
        arrays, facts = first.state()
        second = make_trainer(replace(recipe, seed=99), config)
        second.recipe = recipe
        second.model.load_state_dict(first.model.state_dict())
        second.restore("here", arrays, json.loads(json.dumps(facts)))
        assert [step.number for step in second] == list(range(cut + 1, 10))
        for name, p in whole.model.state_dict().items():
            np.testing.assert_array_equal(second.model.state_dict()[name], p, err_msg=f"{name}, cut at {cut}")


def test_the_rate_warms_up_and_decays():
    rates = [step.rate for step in make_trainer(replace(RECIPE, steps=40, warmup=10, lr=0.01))]
    assert rates[0] == pytest.approx(0.001, rel=1e-3) and rates.index(max(rates)) == 9
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] < 1e-4


def test_a_budget_of_time_is_kept():
    trainer = make_trainer(replace(RECIPE, steps=None, minutes=0.3 / 60))
    list(trainer)
    assert 0.3 <= trainer.seconds < 3.0
    assert trainer.state()[1]["seconds"] >= 0.3


def test_an_epoch_is_one_pass():
    trainer = make_trainer(replace(RECIPE, steps=None, epochs=2))
    assert len(list(trainer)) == 2 * trainer.batches.per_epoch


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0.0}, {"lr": math.nan}, {"lr": math.inf}, {"lr": -1.0}, {"batch": 0}, {"window": -1}, {"clip": 0.0},
        {"seed": -1}, {"steps": 0}, {"steps": None}, {"epochs": 3}, {"minutes": 1.0}, {"steps": 1.5}, {"warmup": -1},
        {"steps": None, "minutes": math.nan}, {"steps": None, "minutes": 0.0}, {"steps": None, "epochs": 0},
    ],
)  # fmt: skip
def test_nonsense_recipes_are_refused(values):
    with pytest.raises(UserError, match=r"\[(budget|" + "|".join(values) + r")\] got"):
        replace(RECIPE, **values)


BROKEN = {
    "step negative": lambda a, f: f.update(step=-1),
    "step text": lambda a, f: f.update(step="3"),
    "seconds NaN": lambda a, f: f.update(seconds=math.nan),
    "generator gone": lambda a, f: f.update(generator=None),
    "generator another": lambda a, f: f.update(generator={"bit_generator": "MT19937"}),
    "generator huge": lambda a, f: f["generator"]["state"].update(state=2**200),
    "carry gone": lambda a, f: a.pop("carry.0"),
    "carry of another shape": lambda a, f: a.update({"carry.1": np.zeros((1, 2, 3), np.float32)}),
    "optimizer without steps": lambda a, f: a.pop("optimizer.steps"),
    "optimizer of many steps": lambda a, f: a.update({"optimizer.steps": np.zeros(3)}),
    "optimizer of another shape": lambda a, f: a.update({k: np.zeros(7, np.float32) for k in a if ".0.1" in k}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_state_of_training_is_a_clear_error(name):
    trainer = make_trainer()
    next(iter(trainer))
    arrays, facts = trainer.state()
    facts = json.loads(json.dumps(facts))
    BROKEN[name](arrays, facts)
    with pytest.raises(UserError, match="damaged state of training"):
        make_trainer().restore("here", arrays, facts)


def test_training_stops_where_numbers_end():
    trainer = make_trainer(replace(RECIPE, lr=1e38, warmup=0))
    with pytest.raises(UserError, match="smaller --lr"):
        list(trainer)


def test_models_of_nothing_are_refused():
    with pytest.raises(UserError, match="two different"):
        make(text="aaaa")
    with pytest.raises(UserError, match=r"\[tied\]"):
        LanguageConfig(hidden=8, embedding=4, tied=True)
    with pytest.raises(UserError, match="longer text"):
        Windows(np.arange(100), 10, 10, 0)
