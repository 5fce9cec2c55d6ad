"""What `make chaos` and `make fuzz` count: a gap, a double, a pause are found where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.report import Claim, Report
from tests.chaos import page
from tests.chaos.kills import Kill, longest, outages
from tests.chaos.streams import Sequence, StreamLog, judged, sequence_of

BOTH = frozenset({"AAPL", "IBM"})


def price(offset: int, symbol: str = "AAPL", epoch: str = "e1") -> dict[str, Any]:
    return {"type": "price_update", "symbol": symbol, "offset": offset, "epoch": epoch}


def log(*messages: dict[str, Any], symbols: frozenset[str] = BOTH) -> StreamLog:
    made = StreamLog(symbols, is_whole=True)
    for message in messages:
        made.take(message, 0)
    return made


def told(*logs: list[dict[str, Any]]) -> Sequence:
    sequence: Sequence = {}
    for messages in logs:
        sequence_of(messages, sequence)
    return sequence


SNAPSHOT = [price(3), price(5, "IBM")]
WHOLE = [*SNAPSHOT, price(6), price(7, "IBM"), price(9), price(12)]


def test_a_client_with_everything_missed_nothing_though_offsets_have_gaps() -> None:
    verdict = judged([log(*WHOLE)], told(WHOLE))
    assert (verdict.missed, verdict.doubled, verdict.out_of_order) == (0, 0, 0)


def test_what_another_client_had_in_between_is_missed() -> None:
    verdict = judged([log(*WHOLE), log(*WHOLE[:4], WHOLE[5])], told(WHOLE))
    assert verdict.missed == 1
    assert verdict.examples == ("client 1: e1:9 to 9",)


def test_other_symbols_are_not_owed() -> None:
    mine = [message for message in WHOLE if message["symbol"] == "IBM"]
    verdict = judged([log(*mine, price(13, "IBM"), symbols=frozenset({"IBM"}))], told(WHOLE))
    assert verdict.missed == 0


def test_a_message_that_comes_again_is_twice_and_out_of_order() -> None:
    verdict = judged([log(*WHOLE, price(9))], told(WHOLE))
    assert (verdict.doubled, verdict.out_of_order) == (1, 1)


def test_a_gap_that_was_told_is_none_and_a_new_epoch_must_be_told() -> None:
    client = log(*WHOLE[:4])
    for message in (price(90), price(91, "IBM"), price(92), price(93)):
        client.take(message, 1)
    assert judged([client], told(WHOLE, [price(50)])).missed == 0
    client.take(price(1, epoch="e2"), 1)
    assert judged([client], told(WHOLE)).untold_epochs == 1


def test_a_pause_is_of_the_kill_in_it_or_of_both() -> None:
    kills = [Kill("haproxy", 1, 10.0), Kill("HubActor", 2, 30.0), Kill("Api replica", 3, 32.0)]
    good_s = [*(n / 10 for n in range(100)), *(15 + n / 10 for n in range(150)), 36.0, 36.1]
    found = outages(kills, good_s, 36.2)
    assert [round(one.took_s, 1) for one in found] == [5.1, 6.1]
    assert round(longest(found, "haproxy")[0], 1) == 5.1
    assert [round(n, 1) for n in longest(found, "HubActor")] == [0.0, 6.1]


def test_each_program_writes_its_own_part_of_the_page(tmp_path: Path) -> None:
    machine = describe_machine()
    for name, title in (("fuzz", "F1"), ("chaos", "C1"), ("fuzz", "F2"), ("chaos", "C2")):
        report = Report(name, title, "how", [Claim("x", "1", True)], command=f"make {name}")
        page.write(report, machine, tmp_path)
    text = (tmp_path / "chaos.md").read_text()
    assert text.index("# C2") < text.index("# F2")
    assert text.count("## How") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"chaos.md", "chaos.json", "fuzz.json"}
