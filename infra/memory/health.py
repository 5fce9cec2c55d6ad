"""When memory is a worry, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass

from infra.memory.usage import MIB, MemoryUse

WARNING_PCT, CRITICAL_PCT = 75.0, 90.0
WARNING_BYTES, CRITICAL_BYTES = 1_000 * MIB, 500 * MIB
_RECOMMEND_PCT = 80.0
_UNCOLLECTABLE = 1_000
_LOW_RATE_PCT, _GOOD_RATE_PCT = 50.0, 70.0
_LARGE_CACHES = 200 * MIB


@dataclass(frozen=True, slots=True)
class Worry:
    """One thing that is wrong, and how badly."""

    level: str
    message: str


def worries(use: MemoryUse, uncollectable: int = 0, leak: str = "") -> list[Worry]:
    """Return what is wrong with the machine's memory, the worst first."""
    found = []
    if use.system_pct > WARNING_PCT:
        level = "critical" if use.system_pct > CRITICAL_PCT else "warning"
        found.append(Worry(level, f"{use.system_pct:.0f} % of the machine's memory is in use"))
    if use.available_bytes < WARNING_BYTES:
        level = "critical" if use.available_bytes < CRITICAL_BYTES else "warning"
        found.append(Worry(level, f"{use.available_bytes // MIB} MB of memory are available"))
    if uncollectable > _UNCOLLECTABLE:
        found.append(Worry("warning", f"{uncollectable} objects cannot be collected"))
    if leak:
        found.append(Worry("warning", leak))
    return sorted(found, key=lambda worry: worry.level != "critical")


def status_of(found: list[Worry]) -> str:
    """Return the worst of them in a word."""
    levels = {worry.level for worry in found}
    return "critical" if "critical" in levels else "warning" if levels else "healthy"


def cache_health(hit_rate_pct: float | None) -> str:
    """Return how caches do by their hit rate; unknown where that is not to be judged."""
    if hit_rate_pct is None:
        return "unknown"
    if hit_rate_pct > _GOOD_RATE_PCT:
        return "healthy"
    return "warning" if hit_rate_pct > _LOW_RATE_PCT else "critical"


def recommendations(
    use: MemoryUse, hit_rate_pct: float | None, cache_bytes: int, found: list[Worry]
) -> list[str]:
    """Return what an operator could do."""
    advice = []
    if use.system_pct > _RECOMMEND_PCT:
        advice.append("give memory back: POST /api/memory/optimize")
    if use.system_pct > CRITICAL_PCT:
        advice.append("run fewer replicas or task workers, or a larger machine")
    if use.available_bytes < WARNING_BYTES:
        advice.append("end other programs on this machine")
    if hit_rate_pct is not None and hit_rate_pct < _LOW_RATE_PCT:
        advice.append("caches rarely have what is asked: raise their sizes (FINSTAGE_CACHES)")
    if cache_bytes > _LARGE_CACHES:
        advice.append(f"caches hold {cache_bytes // MIB} MB: lower FINSTAGE_NEAR_CACHE_BYTES")
    if any("grows" in worry.message for worry in found):
        advice.append("look for what grows: /api/memory/diagnostics shows each process")
    return advice
