"""The examples in docstrings run, each as a program of its own would."""

import doctest
import importlib
import pkgutil

import pytest

import otp_runtime
from tests.process.shared_node import _nothing_left, me, otp_node

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    for found in pkgutil.walk_packages(otp_runtime.__path__, "otp_runtime."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def examples():
    """Every docstring that has an example; its module's names are at hand in it."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in modules():
        for test in finder.find(module, globs={**vars(module), "__name__": "__main__"}):
            if test.examples:
                yield test


@pytest.mark.usefixtures("me")
class TestDocstrings:
    @pytest.mark.parametrize("test", list(examples()), ids=lambda test: test.name)
    def test_examples(self, test):
        """What a docstring shows is what happens."""
        said = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        runner.run(test, out=said.append)

        assert 0 == runner.failures, "".join(said)


__all__ = ["_nothing_left", "me", "otp_node"]
