"""Rules and dashboard name what there is, and Prometheus itself accepts and tests them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import PREFIX, Settings
from tests.unit.test_metrics_catalogue import Kept, catalogue, registered, samples_of

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES, RULE_TESTS = PROMETHEUS / "finstage.rules.yml", PROMETHEUS / "finstage.rules.test.yml"
BOARD = DEPLOY / "grafana" / "finstage.json"

_SELECTOR = r'\{(?:"[^"]*"|[^"}])*\}'
_TOKEN = re.compile(
    rf'"[^"]*"|{_SELECTOR}|\[[^\]]*\]'
    r"|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    r"|\d[\w.]*|[A-Za-z_:][\w:]*\s*\(|(?P<name>[A-Za-z_:][\w:]*)"
)
_WORDS = {"and", "or", "unless", "offset", "bool", "sum", "min", "max", "avg", "count", "topk"}
_OF_PROMETHEUS = {"up", "ALERTS"}
_GRAFANA = {"$__rate_interval": "5m", "$instance": ".*", "$job": "finstage"}


def promtool(*arguments: str) -> str:
    """Run Prometheus's own checker; return what it says, and fail the test where it complains."""
    path = shutil.which("promtool")
    assert path is not None, "promtool is missing: apt-get install prometheus"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def metric_names(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression names."""
    found = {match["name"] for match in _TOKEN.finditer(expression) if match["name"]}
    return found - _WORDS


def label_names(expression: str) -> Iterator[tuple[str, str]]:
    """Yield each metric with each label that its selector asks for."""
    for name, selector in re.findall(rf"([A-Za-z_:][\w:]*)({_SELECTOR})", expression):
        bare = re.sub(r'"[^"]*"', "", selector)
        yield from ((name, label) for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", bare))


def known_samples() -> dict[str, Kept]:
    """Return every name that a sample may have: ours as registered, Ray's as in the catalogue."""
    rays = {name: kept for name, kept in catalogue().items() if name.startswith("ray_")}
    return {
        sample: kept
        for name, kept in (registered() | rays).items()
        for sample in samples_of(name, kept.kind)
    }


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def all_expressions() -> list[str]:
    return panel_expressions() + [rule["expr"] for rule in rules()]


def test_the_tokenizer_finds_metrics_and_nothing_else() -> None:
    expression = (
        'histogram_quantile(0.95, sum by (le, a) (rate(x_bucket{route!="{y}/(z)"}[5m]))) > 1e3'
        ' and on (job) (up offset 10m == 1) or label_replace(v:w, \'p\', "q", "", "")'
    ).replace("'p'", '"p"')

    assert metric_names(expression) == {"x_bucket", "up", "v:w"}
    assert list(label_names(expression)) == [("x_bucket", "route")]


@pytest.mark.parametrize("expression", all_expressions())
def test_each_expression_names_only_metrics_that_there_are(expression: str) -> None:
    names = metric_names(expression)

    assert names
    assert names <= known_samples().keys() | _OF_PROMETHEUS


@pytest.mark.parametrize("expression", all_expressions())
def test_each_selector_asks_for_labels_that_the_metric_has(expression: str) -> None:
    known = known_samples()
    # Prometheus adds its own, and moves a `job` of ours out of their way.
    wrong = {
        (name, label)
        for name, label in label_names(expression)
        if name in known
        and label not in ("instance", "job", "le")
        and label.removeprefix("exported_") not in known[name].labels
    }

    assert wrong == set()


@pytest.mark.parametrize("expression", all_expressions())
def test_each_sum_is_by_labels_that_its_metrics_have(expression: str) -> None:
    known = known_samples()
    listed = re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", expression)
    by = {label.strip() for labels in listed for label in labels.split(",")}
    names = metric_names(expression) & known.keys()
    has = {label for name in names for label in known[name].labels}

    added = {"instance", "job", "le"} | ({"alertname"} if "ALERTS" in expression else set())
    assert {label.removeprefix("exported_") for label in by - added} <= has


def test_the_label_job_is_asked_for_by_the_name_that_prometheus_gives_it() -> None:
    of_jobs = [e for e in all_expressions() if "finstage_job_" in e]

    assert of_jobs
    assert [e for e in of_jobs if "exported_job" not in e] == []


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(RULE_TESTS))


def test_a_rule_that_is_wrong_fails_its_tests(tmp_path: Path) -> None:
    text = RULES.read_text(encoding="utf-8")
    assert "> 0.05" in text
    (tmp_path / RULES.name).write_text(text.replace("> 0.05", "> 0.5"), encoding="utf-8")
    shutil.copy(RULE_TESTS, tmp_path)

    with pytest.raises(AssertionError, match="FinstageErrors"):
        promtool("test", "rules", str(tmp_path / RULE_TESTS.name))


def test_each_rule_is_tested_firing_and_not_firing() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    asked = [one for test in tests for one in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}

    assert {one["alertname"] for one in asked if one["exp_alerts"]} == names
    assert {one["alertname"] for one in asked if not one["exp_alerts"]} == names


def test_the_rules_know_the_job_by_the_name_in_the_configuration() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    named = {n for e in all_expressions() for n in re.findall(r'\bjob="([^"$]+)"', e)}

    assert named == {"finstage"}
    assert "finstage" in {one["job_name"] for one in config["scrape_configs"]}
    assert config["rule_files"] == [RULES.name]


def test_the_page_has_each_alert_and_each_setting_that_is_named_exists() -> None:
    page = (DEPLOY.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    texts = page + RULES.read_text() + (PROMETHEUS / "prometheus.yml").read_text()
    settings = {PREFIX + field.upper() for field in Settings.model_fields}

    assert {rule["alert"] for rule in rules()} == set(re.findall(r"`(Finstage[A-Z]\w+)`", page))
    assert set(re.findall(r"FINSTAGE_[A-Z_]*[A-Z]", texts)) <= settings


def test_promtool_accepts_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    expressions = panel_expressions()
    for variable, value in _GRAFANA.items():
        expressions = [e.replace(variable, value) for e in expressions]
    assert not [e for e in expressions if "$" in e]
    recorded = [{"record": f"panel:{n}", "expr": e} for n, e in enumerate(expressions)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))

    assert f"{len(expressions)} rules found" in promtool("check", "rules", str(file))


def test_the_dashboard_is_of_a_schema_that_grafana_10_and_11_read() -> None:
    assert 36 <= board()["schemaVersion"] <= 39


def test_panels_have_ids_and_places_of_their_own() -> None:
    found = board()["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in found)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in found}) == len(found)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_panel_asks_the_source_that_is_chosen() -> None:
    variables = {one["name"]: one for one in board()["templating"]["list"]}

    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for panel in panels():
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("name", sorted(registered()))
def test_every_metric_is_on_the_dashboard(name: str) -> None:
    shown = set().union(*(metric_names(e) for e in panel_expressions()))
    left_out = {
        "finstage_cache_sets_total",  # what was not taken and what left say more
    }

    assert name in left_out or shown & {*samples_of(name, registered()[name].kind)}
