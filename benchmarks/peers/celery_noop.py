"""Celery as it is used where tasks matter: prefork, Redis, acks late, results kept.

`python -m benchmarks.peers.celery_noop WORKERS TASKS ROUNDS` prints tasks a second of each round.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from celery import Celery, group

URL = "redis://127.0.0.1:{}/0"


def made(port: int) -> Celery:
    """Return the application of a Redis."""
    app = Celery("celery_noop", broker=URL.format(port), backend=URL.format(port))
    app.conf.update(
        task_acks_late=True, worker_prefetch_multiplier=4, task_ignore_result=False,
        broker_connection_retry_on_startup=True,
    )  # fmt: skip

    def noop(number: int) -> int:
        return number

    app.task(noop, name="noop")
    return app


def main() -> None:
    """Start Redis and a worker, and measure."""
    workers, tasks, rounds = map(int, sys.argv[1:4])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="finstage-celery-")
    redis = subprocess.Popen(
        [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(0.5)  # Celery tries again where Redis is not up yet; this saves its first pause
    source = (
        "from benchmarks.peers.celery_noop import made\n"
        f"app = made({port})\n"
        f"app.worker_main(['worker', '--pool=prefork', '--concurrency={workers}', "
        "'--loglevel=ERROR', '--without-gossip', '--without-mingle'])\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", source], cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        measure(made(port), tasks, rounds)
    finally:
        for child in psutil.Process(worker.pid).children(recursive=True):
            child.kill()
        worker.kill()
        redis.kill()
        sys.stdout.flush()
        os._exit(0)  # its results would ask Redis to forget them, again and again


def measure(app: Celery, tasks: int, rounds: int) -> None:
    """Print tasks a second, a round a line, after one of warm-up."""
    noop = app.tasks["noop"]
    group(noop.s(n) for n in range(min(tasks, 100))).apply_async().get(timeout=60)
    for _ in range(rounds):
        started_s = time.monotonic()
        results = group(noop.s(number) for number in range(tasks)).apply_async()
        answers = results.get(timeout=300)
        took_s = time.monotonic() - started_s
        assert answers == list(range(tasks))
        sys.stdout.write(f"{tasks / took_s:.1f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
