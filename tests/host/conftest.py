"""What the tests of files need: a disk that is soon full."""

import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", path], check=False)
    if done.returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield path
    subprocess.run(["umount", path], check=True)
