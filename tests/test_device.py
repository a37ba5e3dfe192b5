"""Where tensors are: made on a device, moved, refused when they meet."""

import numpy as np
import pytest
from on_device import DEVICE

import minigrad as mg
from minigrad.errors import DeviceError, DtypeError, IndexingError

pytestmark = pytest.mark.cuda_sim
X = np.array([[0.1, -0.2, 0.3]], np.float32)


def test_tensors_are_made_on_the_device_that_is_named_or_around_them():
    assert mg.tensor(X, device=DEVICE).device == DEVICE
    with mg.device(DEVICE):
        x = mg.tensor(X)
        with mg.device("cpu"):
            assert mg.tensor(X).device == "cpu"
        layer = mg.nn.LSTM(3, 4)
    assert x.device == DEVICE and mg.tensor(X).device == "cpu"
    assert layer.device == DEVICE and mg.nn.Linear(3, 2).device == "cpu"
    assert mg.tensor(x).device == DEVICE, "a copy stays where its original is"
    np.testing.assert_array_equal(x.numpy(), X)


def test_values_and_gradients_move_with_to():
    x = mg.tensor(X, requires_grad=True)
    y = mg.tanh(x.to(DEVICE))
    assert y.device == DEVICE and y.to(DEVICE) is y
    y.to("cpu").backward(mg.tensor(np.ones_like(X)))
    assert x.grad.device == "cpu"
    np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh(X) ** 2, rtol=1e-6)


def test_numbers_and_arrays_go_where_the_tensor_beside_them_is():
    x = mg.tensor(X, device=DEVICE)
    for y in (x * 2.0, 2.0 * x, x + X, X + x, mg.where(X > 0, x, 0.0), mg.where(X > 0, 0.0, x), mg.maximum(x, 0.0)):
        assert y.device == DEVICE
    np.testing.assert_allclose(mg.where(X > 0, x, 0.0).numpy(), np.where(X > 0, X, 0))


def test_arrays_are_operands_of_products_joins_and_losses_too():
    x = mg.tensor(np.eye(3, dtype=np.float32) + 0.5, device=DEVICE)
    a = np.arange(9, dtype=np.float32).reshape(3, 3)

    def each(x, t):
        return [
            x @ a, a @ x, mg.linear(x, a), mg.linear(a, x, a[0]), mg.einsum("ij,jk->ik", x, a), mg.concat([a, x]),
            mg.stack([x, a]), mg.mse(x, a), mg.scatter_add(x, [2, 0, 2], a), mg.linear_cross_entropy(x, a, t),
        ]  # fmt: skip

    for y, on_cpu in zip(each(x, [0, 1, 2]), each(x.to("cpu"), [0, 1, 2])):
        assert y.device == DEVICE
        np.testing.assert_allclose(y.numpy(), on_cpu.numpy(), rtol=1e-5)


def test_a_cotangent_is_where_its_result_is():
    x = mg.tensor(X, device=DEVICE, requires_grad=True)
    for y in (x, x * 2.0):
        with pytest.raises(DeviceError, match=r"\[backward\] got a cotangent on cpu for a result on cuda"):
            y.backward(mg.tensor(X))
    assert x.grad is None
    (x * 2.0).backward(X)  # an array goes there
    assert x.grad.device == DEVICE
    y, pull = mg.vjp(mg.tanh, x)
    assert pull(X)[0].device == DEVICE
    with pytest.raises(DeviceError, match="cotangent on cpu"):
        pull(mg.tensor(X))
    assert mg.hvp(lambda x: (x * x * x).sum(), x, X).device == DEVICE
    assert mg.jvp(mg.tanh, (x,), (X,))[1].device == DEVICE


def test_an_optimiser_follows_its_parameters_to_another_device():
    def train(*devices):
        layer = mg.nn.Linear(3, 2, generator=0)
        opt, average = mg.optim.Adam(layer.parameters(), lr=0.1), mg.optim.Average(layer.parameters())
        for device in devices:
            layer.to(device)
            layer.zero_grad()
            mg.square(layer(mg.tensor(X, device=device))).sum().backward()
            opt.step()
            average.update()
        layer.to(devices[0])
        with average.applied():
            return layer.weight.device, layer.state_dict()

    at, expected = train("cpu", "cpu", "cpu")
    for devices in (("cpu", DEVICE, "cpu"), (DEVICE, "cpu", DEVICE)):
        at, found = train(*devices)
        assert at == devices[0]
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_check_grad_looks_at_a_tensor_where_it_is():
    seen = set()

    def f(x):
        seen.add(x.device)
        return mg.softmax(x * x)

    mg.testing.check_grad(f, mg.tensor(X, device=DEVICE))
    assert seen == {DEVICE}
    mg.testing.check_grad(mg.nn.Linear(3, 2, generator=0).to(DEVICE), mg.tensor(X, device=DEVICE))
    mg.testing.check_grad(lambda x: mg.tanh(x.to(DEVICE)), X)
    wrong = mg.Operation("wrong", lambda k, x: k.matmul(x, x), (lambda g, y, x: mg.matmul(g, x),))
    square = mg.tensor([[0.3, -0.2], [0.5, 0.7]], device=DEVICE)
    with pytest.raises(mg.testing.GradientError, match="the first wrong one: 'wrong'"):
        mg.testing.check_grad(lambda x: mg.apply(wrong, (mg.tanh(x),)), square)
    with pytest.raises(DeviceError, match=r"\[check_vjp\] got input 0 on cuda"):
        mg.testing.check_vjp(mg.tanh, lambda g, x: g, square)


def test_tensors_on_two_devices_do_not_meet():
    with pytest.raises(DeviceError, match=r"\[add\] got tensors on cpu and cuda(-sim)?, expected one device"):
        mg.tensor(X) + mg.tensor(X, device=DEVICE)
    with pytest.raises(DeviceError, match=r"\[matmul\] got tensors on cpu and cuda"):
        mg.tensor(X, device=DEVICE) @ mg.tensor(X.T)


def test_modules_move_with_their_parameters():
    layer = mg.nn.Linear(3, 2, generator=0)
    before = layer(mg.tensor(X)).numpy()
    assert layer.to(DEVICE).device == DEVICE
    after = layer(mg.tensor(X, device=DEVICE))
    assert after.device == DEVICE
    np.testing.assert_allclose(after.numpy(), before, rtol=1e-5)
    np.testing.assert_array_equal(layer.to("cpu")(mg.tensor(X)).numpy(), before)
    layer.to(DEVICE).load_state_dict(layer.state_dict())
    assert layer.device == DEVICE


def test_unknown_devices_are_named():
    with pytest.raises(DeviceError, match=r"'tpu', expected one of: cpu, cuda"):
        mg.device("tpu")
    with pytest.raises(DeviceError, match=r"'tpu'"):
        mg.tensor(X, device="tpu")
    with pytest.raises(DeviceError, match=r"'tpu'"):
        mg.tensor(X).to("tpu")
    for name in (0, ""):  # torch's cuda:0 is not the CPU
        with pytest.raises(DeviceError, match="expected one of: cpu, cuda"):
            mg.tensor(X, device=name)


def test_a_device_is_left_even_by_an_error():
    with pytest.raises(ValueError), mg.device(DEVICE):
        raise ValueError
    assert mg.tensor(X).device == "cpu"


def test_a_gradient_that_stayed_behind_is_refused():
    layer = mg.nn.Linear(3, 2)
    layer(mg.tensor(X)).sum().backward()
    layer.weight.data = layer.weight.to(DEVICE).data
    with pytest.raises(DeviceError, match=r"\[SGD\] got a gradient on cpu of a parameter on .*after model.to"):
        mg.optim.SGD([layer.weight], lr=0.1).step()


@pytest.mark.parametrize("device", ["cpu", DEVICE])
@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_masks_are_drawn_for_floats_only(dtype, device):
    with pytest.raises(DtypeError, match=r"\[dropout\] got (int64|bool), expected float32 or float64"):
        mg.nn.Dropout(0.3, generator=0)(mg.tensor(np.ones(5, dtype), device=device))


def test_an_index_that_is_too_long_is_the_same_error():
    for device in ("cpu", DEVICE):
        with pytest.raises(IndexingError, match="too many indices for array: array is 2-dimensional, but 3 were"):
            mg.tensor(X, device=device)[0, 0, 0]


def test_the_gradient_of_a_sparse_embedding_is_dense_on_a_device():
    table = mg.nn.Embedding(5, 3, sparse=True, generator=0)
    expected = mg.nn.Embedding(5, 3, generator=0)
    layers = table.to(DEVICE), expected
    for layer in layers:
        adam = mg.optim.Adam(layer.parameters(), lr=0.1)
        for i in range(3):
            mg.square(layer(np.array([1, i]))).sum().backward()
            adam.step()
            adam.zero_grad()
    np.testing.assert_allclose(*[layer.weight.numpy() for layer in layers], rtol=1e-5)


def test_a_layer_takes_arrays_where_it_is():
    layer = mg.nn.LSTM(3, 2, generator=0)
    x, state = np.ones((4, 1, 3), np.float32), (np.ones((1, 1, 2), np.float32), np.zeros((1, 1, 2), np.float32))
    here = layer(x, state)[0].numpy()
    there = layer.to(DEVICE)(x, state)[0]
    assert there.device == DEVICE
    np.testing.assert_allclose(there.numpy(), here, rtol=1e-5)


def test_a_tensor_says_where_it_is():
    assert repr(mg.tensor([1.0], device=DEVICE)) == f"tensor([1.], device={DEVICE})"
    assert repr(mg.tensor([1.0])) == "tensor([1.])"
