"""What holds for every test: it leaves the children and descriptors it found, and ends in time.

A test that needs a node asks for `otp_node`, which looks further: at all descendants, and at the node's files.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

import pytest

from otp_runtime.testing import leaks, plugin

LIMIT_SECONDS = 20  # of a test that is not marked slow; those have the limit of pyproject.toml


def pytest_configure(config):
    """Load the plugin as its entry point would, where the package is on the path and not installed."""
    if not config.pluginmanager.has_plugin("otp_runtime"):
        config.pluginmanager.register(plugin, "otp_runtime")


def pytest_collection_modifyitems(items):
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if not marks & {"timeout", "slow", "stress"}:
            item.add_marker(pytest.mark.timeout(LIMIT_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def _no_core_files():
    """Servers that crash on purpose write no core, so that their reason is the same on every machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture(autouse=True)
def _nothing_left():
    """Every test ends with the children and descriptors it began with."""
    children, opened = _children(), leaks.descriptors()
    yield
    left = [f"child {os_pid}" for os_pid in sorted(_children() - children)]

    assert [] == left + leaks.opened_since(opened)


def _children():
    """The OS pids of this process's children, of whichever thread."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        # a thread may end between the listing and the reading
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.update(Path(f"/proc/self/task/{task}/children").read_text(encoding="ascii").split())
    return found
