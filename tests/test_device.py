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


def test_a_device_is_left_even_by_an_error():
    with pytest.raises(ValueError), mg.device(DEVICE):
        raise ValueError
    assert mg.tensor(X).device == "cpu"


def test_cotangents_and_directions_go_where_the_result_is():
    x = mg.tensor(X, requires_grad=True, device=DEVICE)
    _, pull = mg.vjp(mg.tanh, x)
    assert pull(np.ones_like(X))[0].device == DEVICE
    assert mg.jvp(mg.tanh, (x,), (np.ones_like(X),))[1].device == DEVICE
    assert mg.hvp(lambda x: mg.tanh(x).sum(), x, np.ones_like(X)).device == DEVICE
    mg.tanh(x).backward(np.ones_like(X))
    assert x.grad.device == DEVICE


def test_cotangents_of_another_device_are_refused():
    x = mg.tensor(X, requires_grad=True, device=DEVICE)
    for y in (x, x * 2.0):
        with pytest.raises(DeviceError, match=r"\[backward\] got a cotangent on cpu for a result on cuda"):
            y.backward(mg.tensor(X))
    with pytest.raises(DeviceError, match="a cotangent on cpu"):
        mg.vjp(mg.tanh, x)[1](mg.tensor(X))
    assert x.grad is None


@pytest.mark.parametrize("there", [True, False])
def test_an_optimiser_that_was_made_before_its_model_moved_says_so(there):
    layer = mg.nn.Linear(3, 2, generator=0).to("cpu" if there else DEVICE)
    adam = mg.optim.Adam(layer.parameters())
    for device in (layer.device, DEVICE if there else "cpu"):
        layer.to(device)(mg.tensor(X, device=device)).sum().backward()
        if device == DEVICE if there else device == "cpu":
            with pytest.raises(DeviceError, match=r"\[Adam\] got a parameter on .*make it after model.to"):
                adam.step()
        else:
            adam.step()


def test_an_average_that_was_made_before_its_model_moved_says_so():
    layer = mg.nn.Linear(3, 2)
    average = mg.optim.Average(layer.parameters())
    layer.to(DEVICE)
    with pytest.raises(DeviceError, match=r"\[Average\] got a parameter on .*make it after model.to"):
        average.update()


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
