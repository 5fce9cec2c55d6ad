"""Ray Serve's own processes, started while ours are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import ray
from ray import serve
from ray.serve._private import api, client
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.config import HTTPOptions

from infra.settings import Settings
from serve.cli.start_watch import START_WITHIN_S

_LOOK_EVERY_S = 0.05


@contextmanager
def started_serve(settings: Settings) -> Iterator[Callable[[], None]]:
    """Start Serve beside the body, and wait for its proxies after it; raises what that raised.

    Gives a function that waits until the controller is there: from then on applications can be
    deployed, though the proxies take some seconds more. Before, they would start a Serve of
    their own without our options.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    for module in (api, client):  # who both have it as a name of their own
        module.HTTP_PROXY_TIMEOUT = START_WITHIN_S
    options = HTTPOptions(host=settings.host, port=settings.port)
    ended: Future[None] = Future()

    def start() -> None:
        try:
            serve.start(http_options=options)
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)

    def await_controller() -> None:
        while not ended.done() and not _is_there():
            time.sleep(_LOOK_EVERY_S)
        if ended.done():
            ended.result()

    threading.Thread(target=start, name="serve-start", daemon=True).start()
    yield await_controller
    ended.result()


def _is_there() -> bool:
    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:  # Ray's word for no actor of this name, yet
        return False
    return True
