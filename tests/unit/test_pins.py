"""What is pinned streams until it is let go, also after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.feed.pins import Pins
from infra.errors import RangeInvalid


def test_pins_survive_a_restart(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "pins.json", 3)
    assert pins.symbols == ()

    pins.add(["A", "B"], False)
    pins.add(["B"], True)
    with pytest.raises(RangeInvalid, match="more than 3 symbols"):
        pins.add(["C", "D"], False)

    again = Pins(tmp_path / "pins.json", 3)
    assert (again.symbols, again.live) == (("A", "B"), ("B",))
    again.add(["B"], False)  # what is live stays so
    assert again.live == ("B",)
    again.clear()
    assert Pins(tmp_path / "pins.json", 3).symbols == ()
