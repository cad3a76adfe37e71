"""The examples in the docstrings of ncexp.collapse run and say the truth."""

import doctest
import importlib
import pkgutil

import pytest

import ncexp.collapse

MODULES = [
    "ncexp.collapse",
    *(f"ncexp.collapse.{module.name}" for module in pkgutil.iter_modules(ncexp.collapse.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_docstring_of_the_package_has_an_example():
    assert doctest.testmod(ncexp.collapse).attempted > 5
