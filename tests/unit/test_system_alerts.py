"""Alerts about the service itself: one for what lasts, one for its end, none for a blink."""

from __future__ import annotations

from actors.alerts.system import DAMPED_S, SystemWatch, of_news

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


def test_the_alert_is_told_apart_from_the_next_one_by_its_time() -> None:
    watch = SystemWatch()
    list(watch.bad("store", "no answer", NOW_S))
    (news,) = watch.bad("store", "no answer", NOW_S + DAMPED_S)
    pending = of_news(news, "replay", True, NOW_S + DAMPED_S)

    assert pending.alert.symbol == ""
    assert pending.alert.alert_type == "system_status"
    assert pending.alert.severity == "critical"
    assert pending.once_a_session
    assert len(pending.session) <= 10
    again = of_news(news, "replay", True, NOW_S + 100)  # seen twice
    assert (again.session, again.alert.rule_id) == (pending.session, pending.alert.rule_id)
