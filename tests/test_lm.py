"""The language model as a library: its figures, its samples, its files."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from lm_cases import SMALL, TEXT, make

import minigrad as mg
from minigrad import nn
from minigrad.errors import UserError
from minigrad.models import LanguageConfig, LanguageModel
from minigrad.models.lm.decode import Sampling, sample


def log_probabilities(model, text):
    """log p of each character, from one forward pass of everything before it."""
    ids = np.append(model.vocabulary.start, model.vocabulary.encode(text))
    logits = model(ids[:-1, None])[0].numpy()[:, 0].astype(np.float64)  # (T, V)
    logits -= logits.max(-1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logp[np.arange(len(text)), ids[1:]]


def drawn(model, seed=0, prompt="", **how):
    return sample(model, Sampling(**{"temperature": 1.0, **how}), prompt, seed)


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
    list(drawn(model, length=5))
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
    characters = drawn(model, 3, length=20)
    first = next(characters)
    assert (mg.tensor(1.0, requires_grad=True) * 2.0).requires_grad  # recording, in the middle of a sample
    text = first + "".join(characters)
    assert len(text) == 20 and set(text) <= set(model.vocabulary.symbols)
    assert text == "".join(drawn(model, 3, length=20)) != "".join(drawn(model, 4, length=20))
    assert list(drawn(model, length=0)) == []


def test_temperature_zero_is_the_likeliest_at_every_step():
    model = make()
    text = "the " + "".join(drawn(model, prompt="the ", length=10, temperature=0))
    ids = np.append(model.vocabulary.start, model.vocabulary.encode(text))
    logits = model(ids[:-1, None])[0].numpy()[4:, 0]  # behind the prompt
    np.testing.assert_array_equal(logits.argmax(-1), ids[5:])
    assert text == "the " + "".join(drawn(model, prompt="the ", length=10, temperature=1e-300))


@pytest.mark.parametrize("temperature", [-1.0, math.nan, math.inf])
def test_nonsense_is_refused_before_the_first_character(temperature):
    with pytest.raises(UserError, match="temperature"):
        drawn(make(), temperature=temperature)
    with pytest.raises(UserError, match="length"):
        drawn(make(), length=-1)
    with pytest.raises(UserError, match="prompt.*'Z'"):
        drawn(make(), prompt="Z")


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
    "cell of a module": _set("config", "cell", value="os:system"),
    "cell of a file elsewhere": _set("config", "cell", value="/usr/lib/x.py:cell"),
    "cell of a file above": _set("config", "cell", value="../x.py:cell"),
    "cell of a file that is gone": _set("config", "cell", value="gone.py:cell"),
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

    save_file({"weight": np.zeros(3, np.float32)}, path, {"minigrad-1": "[" * 100_000})


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
