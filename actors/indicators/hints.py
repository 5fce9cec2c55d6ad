"""What should stand where an expression cannot be read on."""

from __future__ import annotations

from collections.abc import Collection

# What people write of other languages, the terminal that is expected there, and how it is written.
_OTHER_SIGNS = (
    ("&", "AND", "and"),
    ("|", "OR", "or"),
    ("!", "NOT", "not"),
    ("=>", "COMPARISON", ">="),
    ("=<", "COMPARISON", "<="),
    ("=", "COMPARISON", "=="),
)
# What is missing, by the first of these terminals that is expected.
_MISSING = {
    "COMPARISON": "a comparison is missing: <, <=, >, >=, ==, !=, crossed_above or crossed_below",
    "UNSIGNED": "a value is missing",
    "NUMBERS": "a number is missing",
    "INT": "a whole number is missing",
    "RPAR": "`)` is missing",
    "RSQB": "`]` is missing",
    "AND": "`and` or `or` is missing",
    "PLUS": "one of + - * / is missing",
    "COMMA": "`,` is missing",
    "NAME": "a name is missing",
}


def hint(expected: Collection[str], text: str, at: int) -> str:
    """Return what should stand at a place, of the grammar's terminals that can stand there."""
    before, rest = text[:at], text[at:]
    if rest.startswith(")") and before.count("(") == before.count(")"):
        return "no `(` goes before it"
    for sign, terminal, ours in _OTHER_SIGNS:
        if rest.startswith(sign) and terminal in expected:
            return f"use `{ours}`"
    missing = (words for terminal, words in _MISSING.items() if terminal in expected)
    return next(missing, "this cannot be read here")
