"""The alert rules, judged by Prometheus' own tool."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from steelyard.serve.observe.families import FAMILIES

RULES = Path(str(files("steelyard.serve.observe") / "alerts.yml"))
TESTS = Path(__file__).parent / "alerts_test.yml"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


def tool(*words):
    return subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)


@promtool
def test_prometheus_accepts_the_rules():
    run = tool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert run.returncode == 0, run.stderr


@promtool
def test_each_alert_fires_where_it_should_and_not_elsewhere():
    run = tool("test", "rules", str(TESTS))
    assert run.returncode == 0, run.stdout + run.stderr


def test_each_alert_is_shown_to_fire_and_to_be_silent():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    tried = {}
    for case in yaml.safe_load(TESTS.read_text())["tests"]:
        for found in case["alert_rule_test"]:
            tried.setdefault(found["alertname"], set()).add(bool(found["exp_alerts"]))
    assert tried == {rule["alert"]: {True, False} for rule in group["rules"]}


def test_rules_and_dashboard_ask_for_what_a_server_tells():
    """A family that was renamed would leave a panel empty and an alert silent for ever."""
    told = {f"steelyard_{name}" for name in FAMILIES} | {"steelyard_build_info"}
    told |= {f"steelyard_gpu_{name}" for name in ("memory_used_bytes", "busy_ratio")}
    dashboard = (files("steelyard.serve.observe") / "grafana.json").read_text()
    panels = json.loads(dashboard)["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    for text in [*queries, *(rule["expr"] for rule in rules())]:
        names = re.findall(r"steelyard_[a-z_]+", text)
        for name in names:
            family = re.sub(r"_(total|bucket|count|sum)$", "", name)
            assert family in told or name in told, name
        assert names or "process_" in text


def test_every_family_that_can_go_wrong_is_on_the_dashboard():
    text = (files("steelyard.serve.observe") / "grafana.json").read_text()
    assert [name for name in FAMILIES if f"steelyard_{name}" not in text] == []


def rules():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return group["rules"]


def test_panels_do_not_overlap_and_say_what_they_are():
    panels = json.loads((files("steelyard.serve.observe") / "grafana.json").read_text())["panels"]
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)
