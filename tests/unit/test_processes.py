"""Processes are looked at while they come and go, and each Finstage finds its own only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from serve.processes import ProcessTree, end_all, marked, named, without_others

# Locks a folder as `finstage up` does, starts what is given, says both pids, and waits.
_UP = """
import os, subprocess, sys; from pathlib import Path
from serve.processes import ProcessTree
folder = Path(sys.argv[1]); folder.mkdir(parents=True, exist_ok=True)
lock = (folder / "lock").open("a"); ProcessTree(folder).mark()
child = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
told = child.stdout.readline().decode().strip() if len(sys.argv) > 4 else ""
print(os.getpid(), child.pid, told, flush=True); sys.stdin.read()
"""
_SLEEPS = ["sleep", "600"]


def up_command(folder: Path, *command: str) -> list[str]:
    return [sys.executable, "-c", _UP, str(folder), *command]


@contextmanager
def started(command: list[str]) -> Iterator[list[int]]:
    """Start one; give the pids that it tells, itself first, and end all of them."""
    up = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    pids = [int(pid) for pid in up.stdout.readline().split()]
    known = {pid: psutil.Process(pid).create_time() for pid in pids}
    try:
        yield pids
    finally:
        end_all(known, patience_s=1)
        up.communicate()


def test_one_that_ends_meanwhile_has_no_name() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    own = psutil.Process()
    child.communicate(b"\n")

    found = named([process, own], own.name())

    assert found == [own]


def test_a_folder_that_took_anothers_place_has_none_of_its_processes(tmp_path: Path) -> None:
    folder, moved = tmp_path / "run", tmp_path / "moved"
    with started(up_command(folder, *_SLEEPS)) as (_, child):
        folder.rename(moved)
        folder.mkdir()
        (folder / "lock").touch()

        assert marked(folder) == {}
        assert list(marked(moved)) == [child]


def test_what_a_tree_began_is_still_its_own_when_its_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = (
        "import subprocess, sys; from pathlib import Path\n"
        "from serve.processes import ProcessTree, end_all\n"
        "folder = Path(sys.argv[1]); folder.mkdir(); lock = (folder / 'lock').open('a')\n"
        "tree = ProcessTree(folder); tree.mark()\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "folder.rename(folder.parent / 'moved'); folder.mkdir(); (folder / 'lock').touch()\n"
        "print(list(tree.look_everywhere()) == [child.pid], tree.has_folder)\n"
        "end_all(tree.known, 1)"
    )

    told = subprocess.check_output([sys.executable, "-c", script, str(folder)], text=True)

    assert told.split() == ["True", "False"]


def test_a_finstage_that_a_task_of_another_starts_is_not_the_others(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with started(up_command(one, *up_command(other, *_SLEEPS))) as (_, inner, _inner, child):
        assert list(marked(one)) == []
        assert list(marked(other)) == [inner, child]
        seen_before = {inner: psutil.Process(inner).create_time()}  # it began with the mark of one
        assert without_others(seen_before, one) == {}
        assert without_others(seen_before, other) == seen_before


def test_what_a_task_starts_is_its_finstages_with_or_without_the_mark(tmp_path: Path) -> None:
    command = ["sh", "-c", "env -i sleep 600 & echo $!; wait", "-"]
    with started(up_command(tmp_path, *command)) as (_, shell, sleep):
        assert set(marked(tmp_path)) == {shell, sleep}


def test_a_tree_forgets_what_has_ended(tmp_path: Path) -> None:
    tree = ProcessTree(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in tree.look()

    child.communicate(b"\n")

    assert child.pid not in tree.look()


def test_an_unmarked_tree_knows_its_descendants(tmp_path: Path) -> None:
    with started(up_command(tmp_path, *_SLEEPS)) as pids:
        assert set(ProcessTree(tmp_path).look()) == set(pids)
