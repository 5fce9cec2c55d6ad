"""Processes are looked at while they come and go."""

from __future__ import annotations

import subprocess
import sys

import psutil

from serve.processes import named


def test_one_that_ends_meanwhile_has_no_name() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    own = psutil.Process()
    child.communicate(b"\n")

    found = named([process, own], own.name())

    assert found == [own]
