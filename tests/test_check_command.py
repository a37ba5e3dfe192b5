"""``minigrad check``: exit codes, reports and misuse."""

from pathlib import Path

import pytest
from cli_cases import fails, folder_fixture, run  # noqa: F401

FUNCTIONS = """
import numpy as np
import minigrad as mg

def right(a, b):
    return mg.tanh(a) * b

op = mg.Operation("wrong", lambda k, x: np.sin(x), (lambda g, y, x: g * mg.cos(x) * 1.001,))
second = mg.Operation("second", lambda k, x: np.sin(x), (lambda g, y, x: g * mg.cos(x.detach()),))

def wrong(x):
    return mg.apply(op, (x,))

def wrong_second(x):
    return mg.apply(second, (x,))

def whole(x):
    return x > 0.0

def array(x):
    return x.numpy()

def nothing(x):
    return None

def fails(x):
    return x.no_such_method()

class Group:
    inside = staticmethod(right)

number = 3
"""


@pytest.fixture(name="own")
def own_fixture(folder):
    Path("own.py").write_text(FUNCTIONS)
    Path("broken.py").write_text("1 / 0")
    Path("own_package").mkdir()
    Path("own_package/__init__.py").write_text("")
    Path("own_package/functions.py").write_text(FUNCTIONS)


def test_what_is_right_is_one_line_and_code_0(own):
    said = run("check", "own.py:right", "--shape", "3,4", "--shape", "4").stdout
    assert said == "own.py:right: derivatives of orders 1 to 2 are right at 10 inputs (3, 4), (4,), domain real\n"
    assert "own_package.functions:right" in run(
        "check", "own_package.functions:right", "--shape", "3,4", "--shape", "()", "--order", 1
    ).stdout  # fmt: skip
    assert "domain positive" in run("check", "minigrad:log", "--shape", "2,2", "--domain", "positive").stdout
    assert "at 3 inputs" in run("check", "minigrad:log", "--shape", "2", "--domain", "1,2", "--examples", 3).stdout
    run("check", "minigrad:log", "--shape", "2", "--domain", "0.001,0.01", "--scale", "1e-4")
    run("check", "minigrad:log", "--shape", "()", "--domain", "near-singular", "--scale", "1e-6", "--order", 1)
    run("check", "own.py:Group.inside", "--shape", "3", "--shape", "", "--order", 3, "--examples", 1)
    run("check", "own.py:wrong_second", "--shape", "3", "--order", 1)


@pytest.mark.parametrize(("name", "said"), [("wrong", "order 1"), ("wrong_second", "order 2")])
def test_a_wrong_gradient_is_a_report_and_code_1(own, name, said):
    result = run("check", f"own.py:{name}", "--shape", "3,2", "--seed", 5, code=1)
    assert f"own.py:{name} at inputs (3, 2), seed 5\n" in result.stdout and said in result.stdout


@pytest.mark.parametrize(("arguments", "said"), [
    (("own.py:missing", "--shape", "2"), "no function 'missing'"),
    (("own.py:number", "--shape", "2"), "no function 'number'"),
    (("missing.py:f", "--shape", "2"), "'missing.py', which is no file here, expected package.module:NAME or FILE.py"),
    (("own.py:right", "--shape", "2", "--domain", "0,inf"), "finite ends"),
    (("own.py:right", "--shape", "2", "--scale", "0"), "[--scale] got 0, expected a step above 0"),
    (("own.py:right", "--shape", "2", "--scale", "nan"), "[--scale] got nan"),
    (("own", "--shape", "2"), "package.module:NAME"),
    (("no_such_package.module:f", "--shape", "2"), "no_such_package"),
    (("broken.py:f", "--shape", "2"), "ZeroDivisionError"),
    (("own.py:right",), "--shape"),
    (("own.py:right", "--shape", "2,x"), "sizes such as 3,4"),
    (("own.py:right", "--shape", "-2"), "sizes such as 3,4"),
    (("own.py:right", "--shape", "3", "--shape", "4"), "broadcast"),
    (("own.py:right", "--shape", "3"), "TypeError"),
    (("own.py:whole", "--shape", "2"), "a result of bool"),
    (("own.py:array", "--shape", "2"), "a result of ndarray"),
    (("own.py:nothing", "--shape", "2"), "a result of nothing"),
    (("own.py:fails", "--shape", "2"), "no_such_method"),
    (("own.py:wrong", "--shape", "2", "--domain", "complex"), "--domain"),
    (("own.py:wrong", "--shape", "2", "--domain", "2,1"), "which holds nothing"),
    (("own.py:wrong", "--shape", "2", "--domain", "1,2,3"), "LOW,HIGH"),
    (("minigrad:log", "--shape", "2", "--domain", "negative"), "no finite value in 20 draws"),
    (("own.py:wrong", "--shape", "2", "--order", "0"), "order"),
])  # fmt: skip
def test_misuse_is_one_line_and_code_2(own, arguments, said):
    assert said in fails("check", *arguments)
