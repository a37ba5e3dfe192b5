"""What a language model can be made of: cells, ties, dropouts, penalties, the learnt state, output layers, files."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_cases import RECIPE, SMALL, make, make_trainer

import minigrad as mg
from minigrad import nn
from minigrad.engine.tree import leaves, tree_map
from minigrad.errors import UserError
from minigrad.kernels.sparse import Rows
from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel, register_cell
from minigrad.models.lm.cells import CELLS
from minigrad.models.lm.softmaxes import SOFTMAXES

AWD = LanguageConfig(layers=3, hidden=12, embedding=7, tied=True)
EVERYTHING = LanguageConfig(
    cell="lstm", layers=2, hidden=10, embedding=6, tied=True, dropout=0.3, input_dropout=0.4, output_dropout=0.2,
    embedding_dropout=0.2, variational=True, weight_dropout=0.5, learn_state=True, init=0.1, activation_penalty=2.0,
    temporal_penalty=1.0,
)  # fmt: skip
VARIANTS = {
    **{cell: replace(SMALL, cell=cell, layers=2) for cell in CELLS},
    **{softmax: replace(SMALL, softmax=softmax, samples=5) for softmax in SOFTMAXES},
    "tied": LanguageConfig(hidden=8, embedding=8, tied=True),
    "tied sampled": LanguageConfig(hidden=8, embedding=8, tied=True, softmax="sampled", samples=5),
    "awd": AWD,
    "learnt state": replace(SMALL, learn_state=True),
    "everything": EVERYTHING,
}
every_variant = pytest.mark.parametrize("name", VARIANTS)
WORDS = "".join(map(chr, range(200, 400)))  # 200 symbols: an adaptive softmax has its tails


def batch(model, T=7, B=3, seed=0):
    ids = np.random.default_rng(seed).integers(0, len(model.vocabulary), (T + 1, B))
    return ids[:-1], ids[1:]


def again(model, seed=3):
    """The masks of the next call are those of this seed."""
    model.generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return model


# ------------------------------------------------------------------------------------------------ any variant


@every_variant
def test_the_parts_fit_together(name):
    model = make(VARIANTS[name], WORDS)
    inputs, targets = batch(model)
    nll, state = model.nll(inputs, targets)
    assert nll.shape == inputs.shape and model.training
    model.eval()
    h, other = model.hidden(inputs)
    logits = model.logits(h).numpy()
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(nll, -np.take_along_axis(logp, targets[..., None], -1)[..., 0], atol=1e-5)
    np.testing.assert_array_equal(model(inputs)[0].numpy(), logits)
    loss, last = model.loss(inputs, targets)
    assert loss.item() == pytest.approx(nll.mean(), rel=1e-5)
    shapes = [s.shape for s in leaves(model.initial_state(3))]
    for found in (state, other, last):
        assert [s.shape for s in leaves(found)] == shapes
    for s in model.initial_state(3), None:
        np.testing.assert_array_equal(model.nll(inputs, targets, s)[0], nll)


@every_variant
def test_a_stream_in_windows_is_the_stream(name):
    model = make(VARIANTS[name], WORDS)
    inputs, targets = batch(model, 9)
    state, found = None, []
    for t in range(0, 9, 4):
        nll, state = model.nll(inputs[t : t + 4], targets[t : t + 4], state)
        found.append(nll)
    np.testing.assert_allclose(np.concatenate(found), model.nll(inputs, targets)[0], atol=1e-5)


@every_variant
def test_a_seed_repeats_a_training_and_a_file_goes_on(name, tmp_path):
    one, two = (make_trainer(config=VARIANTS[name]) for _ in range(2))
    losses = [step.loss for step in one]
    assert losses == [step.loss for step in two] and len(losses) == RECIPE.steps
    half = make_trainer(config=VARIANTS[name])
    for _, step in zip(range(3), half):
        assert step.loss == losses[step.number - 1]
    half.model.save(tmp_path / "half", half.state())
    model, training = LanguageModel.load_for_training(tmp_path / "half")
    rest = make_trainer(config=VARIANTS[name])
    rest = type(rest)(model, rest.batches, model.initial_state(RECIPE.batch), RECIPE)
    rest.restore("half", *training)
    assert [step.loss for step in rest] == losses[3:]
    for key, p in one.model.state_dict().items():
        np.testing.assert_array_equal(p, model.state_dict()[key])


@every_variant
def test_a_loaded_model_is_the_saved_one(name, tmp_path):
    model = make(VARIANTS[name], WORDS)
    model.save(tmp_path / "m")
    found = LanguageModel.load(tmp_path / "m")
    assert found.config == model.config
    assert found.state_dict().keys() == model.state_dict().keys()
    inputs, targets = batch(model)
    np.testing.assert_array_equal(found.nll(inputs, targets)[0], model.nll(inputs, targets)[0])


@every_variant
def test_a_file_with_another_matrix_is_refused_before_anything_is_made(name, tmp_path):
    path = tmp_path / "m.safetensors"
    make(VARIANTS[name], WORDS).save(path)
    tensors, meta = nn.read(path)
    for key in (key for key, a in tensors.items() if a.ndim == 2):
        for bad in (np.zeros((tensors[key].shape[0] + 1, 1), np.float32), tensors[key][:, :-1], None):
            forged = {k: a for k, a in tensors.items() if k != key} | ({} if bad is None else {key: bad})
            nn.write(path, forged, meta)
            with pytest.raises(UserError, match=rf"m\.safetensors.*{key}.*damaged"):
                LanguageModel.load(path)


# ------------------------------------------------------------------------------------------------ ties


@pytest.mark.parametrize("name", ["tied", "tied sampled", "awd"])
def test_a_tied_matrix_is_updated_once(name, tmp_path):
    """Also after loading: one SGD step moves it by the sum of both gradients, embedding and output staying one."""
    make(VARIANTS[name]).save(tmp_path / "m")
    model, apart = LanguageModel.load(tmp_path / "m"), LanguageModel.load(tmp_path / "m")
    assert model.output.weight is model.embedding.weight
    assert [key for key in model.state_dict() if key.endswith("weight")] == ["embedding.weight"]
    apart.output.weight = nn.Parameter(apart.embedding.weight.numpy().copy())
    inputs, targets = batch(model)
    before = model.embedding.weight.numpy().copy()
    for m in (model, apart):
        again(m).loss(inputs, targets)[0].backward()
    mg.optim.SGD(model.parameters(), lr=0.5).step()
    both = np.asarray(apart.embedding.weight.grad.data) + np.asarray(apart.output.weight.grad.data)
    assert model.output.weight is model.embedding.weight
    np.testing.assert_allclose(model.embedding.weight.numpy(), before - 0.5 * both, atol=1e-5)


def test_tied_with_other_units_gives_the_last_layer_those_of_the_embedding():
    model = make(AWD)
    assert model.recurrent.num_layers == 2 and model.last.hidden_size == 7
    (h, _), (last, _) = model.initial_state(3)
    assert h.shape == (2, 3, 12) and last.shape == (1, 3, 7)
    assert model.hidden(batch(model)[0])[0].shape == (7, 3, 7)


REFUSED = {
    "tied": {"tied": True},
    "adaptive": {"tied": True, "hidden": 8, "embedding": 8, "softmax": "adaptive"},
    "variational": {"variational": True},
    "cell": {"cell": "transformer"},
    "softmax": {"softmax": "hierarchical"},
    "samples": {"samples": 0},
    "init": {"init": 0.0},
    "weight_dropout": {"weight_dropout": 1.0},
    "output_dropout": {"output_dropout": -0.1},
    "embedding_dropout": {"embedding_dropout": math.nan},
    "forget_bias": {"forget_bias": math.inf},
    "activation_penalty": {"activation_penalty": -1.0},
    "temporal_penalty": {"temporal_penalty": math.inf},
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused(name):
    with pytest.raises(UserError, match=name):
        LanguageConfig(**REFUSED[name])


def test_every_field_has_help():
    assert all(f.metadata["help"] and "\n" not in f.metadata["help"] for f in fields(LanguageConfig))


# ------------------------------------------------------------------------------------------------ dropout

DROPOUTS = ("dropout", "input_dropout", "output_dropout", "embedding_dropout", "weight_dropout")


@pytest.mark.parametrize("field", DROPOUTS)
@pytest.mark.parametrize("variational", [False, True])
def test_each_dropout_is_for_training_only(field, variational):
    variational &= field != "weight_dropout"
    model = make(replace(SMALL, layers=2, variational=variational, **{field: 0.5}))
    inputs, targets = batch(model)
    plain = make(replace(SMALL, layers=2))
    np.testing.assert_array_equal(model.nll(inputs, targets)[0], plain.nll(inputs, targets)[0])
    first = again(model).loss(inputs, targets)[0].item()
    assert first == again(model).loss(inputs, targets)[0].item() != model.loss(inputs, targets)[0].item()
    zero = make(replace(SMALL, layers=2, **{field: 0.0}))
    assert zero.loss(inputs, targets)[0].item() == plain.loss(inputs, targets)[0].item()


def watch(model, monkeypatch):
    """What each dropout gives in the next call, by the name of its module."""
    seen, names = {}, {id(module): name for name, module in model.named_modules()}
    forward = nn.Dropout.forward

    def note(self, x):
        seen[names[id(self)]] = y = forward(self, x)
        return y

    monkeypatch.setattr(nn.Dropout, "forward", note)
    return seen


@given(p=st.sampled_from([0.3, 0.7]), config=st.sampled_from([replace(SMALL, layers=2), AWD]))
def test_variational_masks_stay_and_others_do_not(p, config):
    for variational in (True, False):
        model = make(replace(config, dropout=p, input_dropout=p, variational=variational))
        with pytest.MonkeyPatch.context() as patch:
            seen = watch(model, patch)
            model.hidden(batch(model)[0])
        assert seen.keys() == {"input_dropout", "recurrent.dropout", "dropout"}
        for y in seen.values():
            zeros = y.numpy() == 0
            assert (zeros == zeros[:1]).all() == variational


def test_the_output_is_dropped_as_the_layers_unless_told_otherwise():
    assert make(replace(SMALL, dropout=0.4)).dropout.p == 0.4
    assert make(replace(SMALL, dropout=0.4, output_dropout=0.0)).dropout.p == 0


def test_a_dropped_symbol_is_dropped_wherever_it_stands():
    model = make(replace(SMALL, embedding_dropout=0.4))
    ids = np.random.default_rng(0).integers(0, len(model.vocabulary), (30, 4))
    e, whole = model._embedded(ids).numpy(), model.embedding(ids).numpy()
    dropped = (e == 0).all(-1)
    for symbol in np.unique(ids):
        assert len(np.unique(dropped[ids == symbol])) == 1
    assert dropped.any() and not dropped.all()
    np.testing.assert_allclose(e[~dropped], whole[~dropped] / 0.6, rtol=1e-5)


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_penalties_are_their_equations(softmax):
    """On outputs before and after dropout, as Merity et al. have it; in training only."""
    config = replace(SMALL, output_dropout=0.5, softmax=softmax, samples=5)
    plain, both = make(config), make(replace(config, activation_penalty=2.0, temporal_penalty=3.0))
    inputs, targets = batch(plain)
    with pytest.MonkeyPatch.context() as patch:
        seen = watch(plain, patch)
        without = again(plain).loss(inputs, targets)[0].item()
    r, h = plain._recur(inputs, None)[0].numpy(), seen["dropout"].numpy()
    expected = without + 2 * (h**2).mean() + 3 * ((r[1:] - r[:-1]) ** 2).mean()
    assert again(both).loss(inputs, targets)[0].item() == pytest.approx(expected, rel=1e-5)
    assert both.eval().loss(inputs, targets)[0].item() == plain.eval().loss(inputs, targets)[0].item()
    assert np.isfinite(both.train().loss(inputs[:1], targets[:1])[0].item())


# ------------------------------------------------------------------------------------------------ the start


def test_all_weights_are_drawn_as_asked():
    model = make(replace(SMALL, init=0.05, layers=2, hidden=40, learn_state=True))
    for name, p in model.state_dict().items():
        if name.startswith("recurrent.bias"):
            p[40:80] -= 1
        assert (np.abs(p) < 0.05001).all(), name
        assert name.startswith("start.") or np.abs(p).max() > 0.04
    gains = make(replace(SMALL, init=0.05, cell="lstm-layernorm")).state_dict()["recurrent.norm_hh_l0"]
    np.testing.assert_array_equal(gains, 1)


@pytest.mark.parametrize("cell", ["lstm", "lstm-coupled", "lstm-peephole", "lstm-layernorm"])
@pytest.mark.parametrize("init", [None, 0.1])
def test_the_forget_bias_opens_the_forget_gate(cell, init):
    a, b = (make(replace(SMALL, cell=cell, init=init, forget_bias=x)).state_dict() for x in (0.0, 2.0))
    moved = b["recurrent.bias_l0"] - a["recurrent.bias_l0"]
    gate = slice(0, 12) if cell == "lstm-coupled" else slice(12, 24)
    np.testing.assert_allclose(moved[gate], 2, atol=1e-6)
    assert np.count_nonzero(moved) == 12


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, cell="gru", layers=2), AWD])
def test_a_learnt_state_stands_where_a_text_begins(config):
    model = make(replace(config, learn_state=True))
    rng = np.random.default_rng(0)
    for p in model.start:
        assert (p.numpy() == 0).all()
        p.data = rng.standard_normal(p.shape).astype(np.float32)
    inputs, targets = batch(model)
    fresh = np.array([True, False, True])
    carried = tree_map(lambda s: mg.tensor(rng.standard_normal(s.shape).astype(np.float32)), model.initial_state(3))
    state = model.reset(carried, fresh)
    for start, old, new in zip(model.start, leaves(carried), leaves(state)):
        expected = np.where(fresh[:, None], start.numpy(), old.numpy())
        np.testing.assert_array_equal(new.numpy(), expected)
    assert model.reset(carried, ~np.ones(3, bool)) is carried
    for s in (state, model.initial_state(3), None):
        model.zero_grad()
        model.loss(inputs, targets, s)[0].backward()
        assert all((p.grad.numpy() != 0).any() for p in model.start)
    model.zero_grad()
    model.loss(inputs, targets, model.reset(model.reset(carried, fresh), ~fresh))[0].backward()
    one = [p.grad.numpy() for p in model.start]
    model.zero_grad()
    model.loss(inputs, targets)[0].backward()
    for a, p in zip(one, model.start):  # all rows began anew, one way or the other
        np.testing.assert_allclose(a, p.grad.numpy(), atol=1e-6)


# ------------------------------------------------------------------------------------------------ cost


def test_the_default_objective_is_the_fused_one():
    """One operation from h to the loss: no logits."""
    model = make()
    inputs, targets = batch(model)
    loss, _ = model.loss(inputs, targets)
    h, _ = model.hidden(inputs)
    assert loss.item() == mg.linear_cross_entropy(h, model.output.weight, targets, model.output.bias).item()
    assert "linear_cross_entropy" in repr(loss)


@pytest.mark.parametrize("softmax", ["sampled", "nce"])
def test_a_step_over_a_large_vocabulary_touches_few_rows(softmax):
    model = make(replace(SMALL, softmax=softmax, samples=9), "".join(map(chr, range(200, 2200))))
    inputs, targets = batch(model, 4, 2)
    model.loss(inputs, targets)[0].backward()
    for p, most in ((model.embedding.weight, 8), (model.output.weight, 17), (model.output.bias, 17)):
        assert type(p.grad.data) is Rows and len(p.grad.data.positions) <= most


def test_padding_changes_nothing():
    """Neither what stands in it nor how much of it there is; each penalty counts what is no padding."""
    config = LanguageConfig(hidden=6, embedding=4, layers=2, activation_penalty=2.0, temporal_penalty=1.0)
    model = LanguageModel(config, CharVocabulary.of("abcdef\n"), generator=0)
    rng = np.random.default_rng(0)
    ids, lengths = rng.integers(0, 7, (6, 3)), np.array([5, 2, 4])
    inside = np.arange(5)[:, None] < lengths
    found = []
    for pad, more in ((0, 0), (3, 0), (3, 4)):
        x = np.full((5 + more, 3), pad)
        x[:5] = np.where(inside, ids[:5], pad)
        y = np.full((5 + more, 3), -100)
        y[:5] = np.where(inside, ids[1:], -100)
        model.zero_grad()
        loss, _ = model.loss(x, y)
        loss.backward()
        found.append([loss.item(), *[p.grad.numpy().copy() for p in model.parameters()]])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-7)


# ------------------------------------------------------------------------------------------------ a cell of the user


def own_gru(p, x, h):
    """``cells.gru_simple``, as a user writes it."""
    u, n = mg.split(x @ p.W.T + h @ p.U.T + p.b, 2, axis=-1)
    u = mg.sigmoid(u)
    h = u * mg.tanh(n) + (1.0 - u) * h
    return h, h


def own_lstm(p, x, state):
    """``cells.lstm``."""
    h, c = state
    i, f, g, o = mg.split(x @ p.W.T + h @ p.U.T + p.b, 4, axis=-1)
    c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
    h = mg.sigmoid(o) * mg.tanh(c)
    return (h, c), h


class OwnLayer(nn.RNN):
    """A class does as well as a function."""


@pytest.mark.parametrize("own, name", [(own_gru, "gru-simple"), (own_lstm, "lstm"), (OwnLayer, "rnn")])
@pytest.mark.parametrize("options", [{}, {"layers": 3, "tied": True, "learn_state": True, "weight_dropout": 0.2}])
def test_a_cell_of_the_user_is_one_of_ours(monkeypatch, tmp_path, own, name, options):
    monkeypatch.setitem(CELLS, "own", None)  # taken away again behind the test
    register_cell("own", own)
    config = replace(SMALL, cell="own", forget_bias=1e-30, **options)
    model, known = make(config), make(replace(config, cell=name))
    known.load_state_dict(model.state_dict())
    inputs, targets = batch(model)
    for one, other in zip(again(model).loss(inputs, targets), again(known).loss(inputs, targets)):
        for a, b in zip(leaves(one), leaves(other)):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "m.safetensors")
    assert LanguageModel.load(tmp_path / "m.safetensors").score("the cat") == model.score("the cat")
    monkeypatch.delitem(CELLS, "own")
    with pytest.raises(UserError, match=r"m\.safetensors.*'own'.*register_cell"):
        LanguageModel.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("own, said", [
    (lambda p, x, h: (h, mg.flip(h, -1)), "not the first state"),
    (lambda p, x, h: (mg.tahn(h), h), "tahn"),
    (lambda p, x, h: h, "ValueError"),
    (lambda p, x: (x, x), "takes 2 positional"),
    (lambda p, x, h: (p.decay * h, h), "decay"),
    (lambda p, x, h: ((h, h, h), h), r"3 state\(s\)"),
    (lambda p, x, h: (1.0, 2.0), "None"),
])  # fmt: skip
def test_what_is_no_cell_is_refused_with_the_reason(own, said):
    with pytest.raises(UserError, match=said):
        nn.layer_of(own)
    with pytest.raises(UserError, match="'lstm'"):
        register_cell("lstm", own_gru)
