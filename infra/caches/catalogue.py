"""The caches there are by name: how many entries, for how long."""

from __future__ import annotations

from dataclasses import dataclass

from infra.caches.base import checked_lifetime, checked_name, checked_size

MIB = 2**20
MOST_CACHES = 64  # names are labels of metrics


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """The bounds of a cache in one process, and how long its entries live."""

    name: str
    max_entries: int = 1_000
    ttl_s: float | None = 300.0
    max_bytes: int = 32 * MIB

    def __post_init__(self) -> None:
        checked_name(self.name)
        checked_size(self.max_entries, "max_entries")
        checked_size(self.max_bytes, "max_bytes")
        checked_lifetime(self.ttl_s, "ttl_s")


TECHNICAL_ANALYSIS, NEWS, PRICE_DATA, API_RESPONSE = (
    "technical_analysis", "news", "price_data", "api_response",
)  # fmt: skip
DEFAULT = "default"

SPECS = (
    CacheSpec(TECHNICAL_ANALYSIS, 500, 600.0),
    CacheSpec(NEWS, 1_000, 300.0),
    CacheSpec(PRICE_DATA, 200, 3_600.0),
    CacheSpec(API_RESPONSE, 2_000, 180.0),
    CacheSpec(DEFAULT, 1_000, 300.0),
)


def parsed_specs(text: str) -> tuple[CacheSpec, ...]:
    """Return `name=entries:ttl_s[:MiB];…`, `-` for no lifetime; raises ValueError."""
    specs = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, equals, values = part.partition("=")
        numbers = values.split(":")
        if not equals or len(numbers) not in (2, 3):
            raise ValueError(
                f"{part!r} is no cache: write name=entries:seconds or name=entries:seconds:MiB, "
                "`-` for seconds without end"
            )
        try:
            entries = int(numbers[0])
            ttl_s = None if numbers[1] == "-" else float(numbers[1])
            size = int(float(numbers[2]) * MIB) if len(numbers) == 3 else 32 * MIB
        except ValueError:
            raise ValueError(f"{part!r}: entries, seconds and MiB are numbers") from None
        specs.append(CacheSpec(name.strip(), entries, ttl_s, size))
    return tuple(specs)
