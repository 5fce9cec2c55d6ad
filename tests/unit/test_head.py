"""How Ray's processes are started: a signal to ours does not reach them."""

from __future__ import annotations

import os

from serve.cli.head import _own_sessions


def test_a_signal_to_our_group_does_not_reach_what_ray_starts() -> None:
    from ray._private import services

    with _own_sessions():
        started = services.start_ray_process(["sleep", "60"], "raylet", fate_share=False).process
    try:
        assert os.getsid(started.pid) == os.getpgid(started.pid) == started.pid
    finally:
        started.kill()
        started.wait()
    assert isinstance(services.ConsolePopen, type)
