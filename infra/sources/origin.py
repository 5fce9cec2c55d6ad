"""What is said of prices wherever their source is named: what is made is called made."""

from __future__ import annotations

from dataclasses import dataclass

from infra.bars import IMPORT


@dataclass(frozen=True, slots=True)
class Origin:
    """What prices of one source are.

    `label`: in a few words, wherever the name stands. `notice`: for who looks at prices; empty of
    a live market. `is_made`: none of its prices was ever traded, bars neither.
    """

    label: str
    notice: str = ""
    is_made: bool = False


ORIGINS = {
    "replay": Origin(
        "replay: real daily bars, years old; ticks made",
        "These prices are a replay: real daily bars of years ago, with made ticks between open, "
        "high, low and close. They are not the market of today.",
    ),
    "simulated": Origin(
        "simulated: all prices made",
        "These prices are made: bars and ticks of a simulated market. Nothing of it was ever "
        "traded.",
        is_made=True,
    ),
    "recording": Origin(
        "recording, played again",
        "These prices are a recording, played again. They are not the market of now.",
    ),
    "yahoo": Origin("Yahoo"),
    IMPORT: Origin("imported by a user"),
}


def origin_of(name: str, recorded: str = "") -> Origin:
    """Return what is said of a source by name; `recorded`: whose prices a recording has."""
    if "+" in name:
        return _joined([origin_of(part) for part in name.split("+")])
    origin = ORIGINS.get(name, Origin(name))
    if name != "recording" or not recorded:
        return origin
    of = origin_of(recorded)
    notice = f"{origin.notice} {of.notice}".strip()
    return Origin(f"recording of {of.label}", notice, of.is_made)


def _joined(origins: list[Origin]) -> Origin:
    """Return what is said of prices of several: of a source's and a user's."""
    label = " and ".join(origin.label for origin in origins)
    notice = " ".join(origin.notice for origin in origins if origin.notice)
    return Origin(label, notice, all(origin.is_made for origin in origins))


def label_of(source: str) -> str:
    """Return a source's label; `source` may be of several, as `joined_sources` makes it."""
    return origin_of(source).label


def named(source: str) -> str:
    """Return what stands behind a text about prices that are not of a live market, or nothing.

    >>> named("simulated")
    ' (simulated: all prices made)'
    >>> named("yahoo")
    ''
    """
    origin = origin_of(source)
    return f" ({origin.label})" if origin.notice else ""
