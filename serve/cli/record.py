"""`finstage record`: the running service's stream into a file."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status

from infra.clock import SystemClock
from infra.errors import ConfigError, FinstageError
from infra.settings import Settings
from pipelines.driver.joining import join
from serve.cli.new_files import need_new_file

if TYPE_CHECKING:
    from pipelines.recorder import Progress

_SHOW_EVERY_S = 0.5


def record_stream(
    settings: Settings, console: Console, out: Path, symbols: Sequence[str], seconds: float
) -> int:
    """Record until interrupted, or for `seconds` if that is not 0; return the exit code.

    Raises ConfigError if nothing runs, the file is there already or cannot be written, or a
    symbol is unknown.
    """
    need_new_file(out)
    join(None, None, settings.data_dir)
    try:
        progress = asyncio.run(_record(console, out, symbols, seconds))
    except FinstageError as error:
        out.unlink(missing_ok=True)
        raise ConfigError(f"cannot record: {error.message}") from None
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror or error}") from None
    console.print(
        f"{out}: {progress.events:,} events of {progress.symbols} symbols in "
        f"{progress.elapsed_s:.0f} s, {out.stat().st_size:,} bytes"
    )
    if progress.resyncs:
        console.print(f"[yellow]the stream broke {progress.resyncs} times: ticks lack[/yellow]")
    console.print(f"play it: FINSTAGE_SOURCE=replay:{out} finstage up", soft_wrap=True)
    return 0


async def _record(console: Console, out: Path, symbols: Sequence[str], seconds: float) -> Progress:
    # Ray reads its environment when it is imported: after the join
    from actors.feed.client import FeedClient
    from actors.hub.client import HubClient
    from pipelines.recorder import Recorder

    recorder = Recorder(FeedClient(), HubClient(), SystemClock())
    work = asyncio.ensure_future(recorder.run(out, symbols))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with console.status("asking for what there is …") as status:
        shown = asyncio.ensure_future(_show(recorder.progress, status, out))
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):  # how recordings end
            await asyncio.wait_for(work, seconds or None)
        shown.cancel()
    return recorder.progress


async def _show(progress: Progress, status: Status, out: Path) -> None:
    while True:
        await asyncio.sleep(_SHOW_EVERY_S)
        if progress.symbols:
            status.update(
                f"recording {progress.symbols} symbols into {out.name}: {progress.events:,} "
                f"events in {progress.elapsed_s:.0f} s; Ctrl-C ends it"
            )
