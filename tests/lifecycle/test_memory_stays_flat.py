"""Ten times what the caches hold passes through every route and stream; memory stays flat."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks.soak import soak
from tests.service import running

_MOST_GROWTH_PCT = 8.0  # of the whole tree, within the tail of three minutes


def test_memory_stays_flat_under_ten_times_the_caches(tmp_path: Path) -> None:
    small = {
        "near_cache_entries": 100, "near_cache_bytes": 4 * 2**20, "shared_cache_bytes": 4 * 2**20,
        "hub_history_bytes": 4 * 2**20, "replay_session_s": 10,
    }  # fmt: skip
    with running(tmp_path / "data", **small) as service:
        found = asyncio.run(soak(service.url, 3.0))

    sys.stdout.write(
        f"{found.tree_mb[0]:.0f} to {found.tree_mb[-1]:.0f} MB, "
        f"tail {found.tail_growth_pct:+.1f} %, answers {dict(found.answers)}, "
        f"{found.frames} messages\n"
    )
    assert found.answers[200] > 1_000
    assert found.answers[0] == 0
    assert not [code for code in found.answers if code >= 500 and code not in (501, 503)]
    assert found.frames > 100
    assert found.tail_growth_pct < _MOST_GROWTH_PCT
