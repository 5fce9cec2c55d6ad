"""What makes no sense: texts, and fragments of JSON that no library would write."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import orjson

TEXTS = (
    "", " ", "AAPL", "aapl", "APPL", "AAPL,IBM", "*", "category:stock", "category:none", "^GSPC",
    "%2541APL", "%00", "a\x00b", "\u00b2", "\u0663", "\U0001f642", "AAPL\u0301", "\ufeffAAPL",
    "A" * 5_000, "AAPL," * 600, ",".join(f"S{n}" for n in range(2_000)),
    "../../etc/passwd", "..%2f..%2fetc",
    "NaN", "nan", "inf", "-inf", "1e308", "1e309", "-1e308", "1e-400", "-1", "0", "-0", "1.5",
    "0x10", "1_000", "+5", "99999999999999999999", "-99999999999999999999", "9223372036854775807",
    "9223372036854775808", "true", "null", "[]", "{}", '["AAPL"]', '{"a":1}', "'", '"', "\\",
    "<script>alert(1)</script>", "';DROP TABLE bars;--", "${jndi:ldap://x}", "{{7*7}}",
    "\r\nx-y: z",
    "9999-12-31", "10000-01-01", "0001-01-01", "0000-00-00", "1969-12-31", "2012-02-30",
    "2012-08-29", "2012-08-29T10:00:00+99:00", "1970-01-01T00:00:00Z", "max", "1y", "1d", "1m",
    "sma(5)", "sma(-5)", "sma(1e9)", "sma(99999999999)", "sma(" * 300,
    "rsi(14)" + ",rsi(14)" * 500,
    "close > " * 200, "close[99999999999] > 1", "(" * 500 + "close" + ")" * 500 + " > 1",
    "close / 0 > 1", "not " * 400 + "close > 1", "x:99999999999999999999", "x:\u00b2", ":", "x:-1",
)  # fmt: skip
FRAGMENTS = (
    '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', "NaN", "Infinity", "-Infinity", "1e999",
    "-1e999", "1e308", "12345678901234567890123456789", "-12345678901234567890",
    "9223372036854775808",
    "18446744073709551616", "1" + "0" * 400, "0.1e-999", "-0", "-0.0", "[" * 1_500 + "]" * 1_500,
    '{"a":' * 1_200 + "1" + "}" * 1_200, "[]", "{}", "[[]]", "[null]", "null", "true", "false",
    "0", "-1", "1.5", '""', '" "', '"AAPL"', '["AAPL"]', '["AAPL",null,1]', '{"AAPL":1}',
    "", ",", "01",
    '["' + '","'.join(f"S{n}" for n in range(3_000)) + '"]', '"' + "x" * 20_000 + '"',
    '"\\u00e9\\u0301"', '"9999-12-31"', '"0001-01-01"', '"127.1"', '"http://2130706433/"',
    '"https://example.org/hook"', '"http://[::ffff:127.0.0.1]/"', '"1e308"', '"nan"',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Raw:
    """Text that stands in JSON as it is."""

    text: str


def json_text(value: Any) -> str:
    """Return JSON, with what is raw as it is."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_text(k)}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    return orjson.dumps(value).decode()


def text(draws: random.Random) -> str:
    """Return a text; at times one that differs in a place from those in the list."""
    drawn = draws.choice(TEXTS)
    if draws.random() < 0.2 and drawn:
        place = draws.randrange(len(drawn))
        drawn = (
            drawn[:place]
            + chr(draws.choice((0, 10, 34, 37, 44, 58, 0x660, 0x1F600)))
            + drawn[place:]
        )
    return drawn


def raw(draws: random.Random) -> Raw:
    """Return a fragment of JSON: one of the list, or a text."""
    if draws.random() < 0.3:
        return Raw(orjson.dumps(text(draws)).decode())
    return Raw(draws.choice(FRAGMENTS))


def of_schema(
    schema: dict[str, Any], whole: dict[str, Any], draws: random.Random, depth: int = 0
) -> Any:
    """Return a value that an OpenAPI schema takes, more or less."""
    if "$ref" in schema:
        return of_schema(
            whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole, draws, depth
        )
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return of_schema(draws.choice(schema[several]), whole, draws, depth)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draws.choice(schema["enum"])
    if schema.get("examples") and draws.random() < 0.7:
        return draws.choice(schema["examples"])
    kind = schema.get("type", "string")
    if kind == "object":
        named: dict[str, Any] = schema.get("properties", {})
        needed = schema.get("required", ())
        return {
            name: of_schema(one, whole, draws, depth + 1)
            for name, one in named.items()
            if (name in needed or draws.random() < 0.5) and depth < 5
        }
    if kind == "array":
        return [
            of_schema(schema.get("items", {}), whole, draws, depth + 1)
            for _ in range(draws.randrange(3))
        ]
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        return draws.choice((low, low + 1, schema.get("maximum", 5), 5))
    if kind == "boolean":
        return draws.random() < 0.5
    if kind == "null":
        return None
    return draws.choice(("AAPL", "IBM", "a", "price > 1", "1y", "p95_response_time", "2012-08-29"))


def spoiled(value: Any, draws: random.Random) -> Any:
    """Return a value with something in it that makes no sense."""
    if isinstance(value, dict) and value and draws.random() < 0.9:
        name = draws.choice(sorted(value))
        changed = dict(value)
        what = draws.random()
        if what < 0.7:
            changed[name] = spoiled(value[name], draws)
        elif what < 0.8:
            del changed[name]
        else:
            changed[text(draws)] = raw(draws)
        return changed
    if isinstance(value, list) and value and draws.random() < 0.7:
        place = draws.randrange(len(value))
        return [*value[:place], spoiled(value[place], draws), *value[place + 1 :]]
    return raw(draws)
