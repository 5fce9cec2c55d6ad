"""Alerts about the service itself: one for what lasts, one for its end, none for a blink."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.alerts.firing import give
from actors.alerts.system import DAMPED_S, SystemWatch, service_alert
from infra.db.alerts import AlertState
from infra.db.store import Store
from infra.db.unit import Unit
from infra.db.url import file_url
from infra.sources.runs import Run

NOW_S = 1_700_000_000.0


def test_a_blink_is_told_to_nobody() -> None:
    watch = SystemWatch()
    assert list(watch.bad("store", "no answer", NOW_S)) == []
    assert list(watch.bad("store", "no answer", NOW_S + DAMPED_S - 0.1)) == []
    assert list(watch.good("store", NOW_S + DAMPED_S)) == []
    assert list(watch.bad("store", "no answer", NOW_S + DAMPED_S + 1)) == []  # counts anew


def test_what_lasts_is_one_alert_and_its_end_another() -> None:
    watch = SystemWatch()
    told = [
        news.message
        for second in range(60)
        for news in watch.bad("store", "no answer", NOW_S + second)
    ]
    told += [news.message for news in watch.good("store", NOW_S + 60)]
    told += [news.message for news in watch.good("store", NOW_S + 61)]

    assert told == ["store is away since 22:13:20 UTC: no answer", "store is back after 60 s"]


def test_another_process_means_a_restart() -> None:
    watch = SystemWatch()
    assert list(watch.process("feed", "1", NOW_S)) == []
    assert list(watch.process("feed", "1", NOW_S)) == []
    (news,) = watch.process("feed", "2", NOW_S + 1)
    assert (news.part, news.message) == ("feed", "feed restarted")
    assert list(watch.process("feed", "2", NOW_S + 2)) == []


def test_parts_do_not_mix() -> None:
    watch = SystemWatch()
    list(watch.bad("source", "stale", NOW_S))
    list(watch.bad("hub", "away", NOW_S + 5))
    assert [n.part for n in watch.bad("source", "stale", NOW_S + 11)] == ["source"]
    assert list(watch.bad("hub", "away", NOW_S + 11)) == []


def test_one_that_comes_back_as_another_process_is_back_and_nothing_more() -> None:
    watch = SystemWatch()
    list(watch.process("feed", "1", NOW_S))
    list(watch.bad("feed", "gone", NOW_S + 1))
    list(watch.bad("feed", "gone", NOW_S + 12))
    told = [*watch.process("feed", "2", NOW_S + 20), *watch.good("feed", NOW_S + 20)]
    assert [news.message for news in told] == ["feed is back after 19 s"]

    list(watch.bad("feed", "gone", NOW_S + 30))  # a blink is no word that it is away
    told = [*watch.process("feed", "3", NOW_S + 31), *watch.good("feed", NOW_S + 31)]
    assert [news.message for news in told] == ["feed restarted"]


def test_each_news_is_an_alert_and_the_same_again_none(tmp_path: Path) -> None:
    watch = SystemWatch()
    news = [
        news
        for second in range(30)
        for news in (
            *watch.bad("store", "no answer", NOW_S + second),
            *(watch.good("store", NOW_S + second) if second % 15 == 14 else ()),
        )
    ]
    pending = [service_alert(one, "replay", True, one.at_s + DAMPED_S) for one in news]

    async def numbers() -> list[int]:
        store = Store(file_url(tmp_path / "store.db"))
        await store.migrate()

        async def work(unit: Unit) -> list[int | AlertState]:
            return [await give(unit, one, Run("replay")) for one in pending]

        found = [await store.write(work) for _ in range(2)]
        await store.close()
        assert found[0] == found[1]
        return [one for one in found[0] if isinstance(one, int)]

    assert [one.alert.severity for one in pending] == ["critical", "info"] * 2
    assert {(one.alert.symbol, one.alert.alert_type) for one in pending} == {("", "system_status")}
    assert len(set(asyncio.run(numbers()))) == 4
