"""Alerts, dashboards and README speak of metrics that there are: a real Prometheus scrapes a real exporter and API."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.state import Drift, State
from movierec_platform.config import Settings, inherited_environment, variables_of
from movierec_platform.local.web import ApiServer, MetricsServer
from movierec_platform.services.exposition import ANSWERED, DURABLE, LABEL_VALUES, METRICS, OBSERVED
from movierec_platform.services.keys import Keys
from movierec_platform.services.versions import Evaluated, record_evaluated
from movierec_tests.api.conftest import VERSION, Platform
from movierec_tests.prometheus import DEPLOY, configured, launched, program
from movierec_tests.servers import emptied_graph, empty_settings

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "movierec_platform/docs/operate/runbook.md").read_text()
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"]
    for rule in group["rules"]
}
DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted(DEPLOY.glob("grafana/dashboards/*.json"))}
PANELS = {f"{name}: {panel['title']}": panel for name, board in DASHBOARDS.items() for panel in board["panels"]}
DEADLINE_S = 60.0
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "offset", "bool", "group_left", "group_right"}


def queries(panel: dict[str, Any]) -> list[str]:
    """The panel's PromQL, with a time in place of Grafana's."""
    return [target["expr"].replace("$__rate_interval", "1m") for target in panel["targets"]]


def names_in(query: str) -> set[str]:
    """The metrics that this PromQL asks for: what is left of it without strings, labels, times, functions, words."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]', "", query)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - WORDS


@dataclass
class Prometheus:
    """A Prometheus that has scraped an exporter and an API which want keys."""

    url: str
    exporter: MetricsServer
    keys: dict[str, str]
    """By scope."""

    def get(self, path: str, **parameters: str) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=DEADLINE_S).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def values(self, query: str) -> dict[str, float]:
        """By job."""
        return {one["metric"]["job"]: float(one["value"][1]) for one in self.get("query", query=query)["result"]}

    def names(self) -> set[str]:
        return set(self.get("label/__name__/values"))


def has_scraped(url: str) -> bool:
    """Whether it has the exporter's figures, and the API's second ones: the first do not count their own request."""
    try:
        answer = requests.get(f"{url}/api/v1/label/__name__/values", timeout=DEADLINE_S)
    except requests.ConnectionError:
        return False
    names = answer.json()["data"] if answer.ok else ()  # 503 while it starts
    return {"movierec_http_requests_total", "movierec_lake_rows"} <= {*names}


@pytest.fixture(scope="module")
def prometheus(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    binary, folder = program("prometheus"), tmp_path_factory.mktemp("prometheus")
    own = empty_settings(settings, folder / "home")
    state = State.open(own)
    keys = {scope: Keys(state.keys).create("prometheus", [scope]).text for scope in ("read", "ingest")}
    state.note_drift(Drift(0, 1))
    state.close()
    required = {"MOVIEREC_REQUIRE_KEYS": "true", "MOVIEREC_METRICS_HOST": "0.0.0.0"}  # noqa: S104
    api, exporter = ApiServer(own.home, 0), MetricsServer(own.home, 0)
    servers = (api, exporter)
    with emptied_graph(own) as graph:
        platform = Platform(own, graph, Lake(own))
        platform.load()
        platform.publish()
        scores = {name: {"ndcg": {"value": 0.2}} for name in ("popularity", "candidate, learned")}
        record_evaluated(platform.lake, Evaluated(VERSION, 1, None, True, "", 9, 0.3, 0.2, 0.4, {}, scores, []))
        try:
            for server in servers:
                server.environment = {**inherited_environment(), **variables_of(own), **required}
                server.reserve_port()
            config = configured(folder / "config", keys["read"], api=api.port, exporter=exporter.port)
            # Prometheus first: whatever there is, it looks for its targets after five seconds.
            with launched(binary, config, folder) as url, ThreadPoolExecutor() as pool:
                list(pool.map(lambda server: server.start(), servers))
                ends = time.monotonic() + DEADLINE_S
                while not has_scraped(url):
                    assert time.monotonic() < ends, (folder / "log").read_text()
                    time.sleep(0.1)
                yield Prometheus(url, exporter, keys)
        finally:
            for server in servers:
                server.stop()


def test_prometheus_scrapes_exporter_and_api_with_its_key(prometheus):
    assert prometheus.values("up") == {"movierec-exporter": 1, "movierec-api": 1}
    assert prometheus.values('movierec_lake_rows{table="movies"}') == {"movierec-exporter": 6}
    assert prometheus.values("sum by (job) (movierec_part_up)") == {"movierec-exporter": 6}


def test_an_exporter_that_others_reach_is_scraped_with_a_key_that_may_read(prometheus):
    exporter, keys = prometheus.exporter, prometheus.keys

    def scrape(**headers: str) -> requests.Response:
        return requests.get(f"{exporter.url}/metrics", headers=headers, timeout=DEADLINE_S)

    assert [scrape().status_code, scrape(Authorization="Bearer wrong").status_code] == [401, 401]
    refused = scrape(Authorization=f"Bearer {keys['ingest']}")
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/missing-scope")
    assert 'movierec_part_up{part="state"} 1.0' in scrape(Authorization=f"Bearer {keys['read']}").text
    live = requests.get(f"{exporter.url}/health/live", timeout=DEADLINE_S)
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert not any(key.split("_", 2)[2] in exporter.log.read_text() for key in keys.values())


def test_every_metric_that_alerts_and_dashboards_ask_for_was_scraped_and_so_was_every_one_that_is_described(prometheus):
    asked = {name for panel in PANELS.values() for query in queries(panel) for name in names_in(query)}
    asked |= {name for rule in ALERTS.values() for name in names_in(rule["expr"])}
    series = {f"{name}_bucket" if METRICS[name].kind == "histogram" else name for name in METRICS}
    assert {"up", "movierec_part_up", "process_open_fds"} <= asked
    assert (asked - {"ALERTS"}) | series <= prometheus.names()


def test_prometheus_can_evaluate_every_alert_and_every_panel(prometheus):
    for panel in PANELS.values():
        for query in queries(panel):
            prometheus.get("query", query=query)  # which raises where it is none
    for rule in ALERTS.values():
        prometheus.get("query", query=rule["expr"])
    loaded = [rule["name"] for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert sorted(loaded) == sorted(ALERTS)


@pytest.mark.thorough("Prometheus")
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml", "days_test.yml"],
    ],
    ids=["configuration", "rules", "tests of the rules"],
)
def test_promtool_is_content(tmp_path, arguments):
    configured(tmp_path / "config", "mrk_none")
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, cwd=tmp_path / "config", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire_and_seen_not_to():
    files = [yaml.safe_load(file.read_text()) for file in DEPLOY.glob("prometheus/*_test.yml")]
    looks = [look for file in files for test in file["tests"] for look in test["promql_expr_test"]]
    asked = [(look["expr"], str(look["exp_samples"])) for look in looks]
    for alert in ALERTS:
        assert any(f'alertname="{alert}"' in samples for _, samples in asked), f"{alert} is never seen to fire"
        silent = [query for query, samples in asked if samples == "[]"]
        assert any(alert in query or "alertname" not in query for query in silent), f"{alert} is never seen silent"


def test_each_alert_says_how_bad_it_is_and_has_its_entry_in_the_runbook():
    for alert, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbook }}}}#{alert.lower()}"
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    entries = dict(re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^### |\Z)", RUNBOOK))
    assert list(entries) == list(ALERTS)
    for alert, entry in entries.items():
        assert re.findall(r"(?m)^- \*\*(.+?)\*\*", entry) == ["Means", "Look", "Do", "Over when"], alert
    base = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["global"]["external_labels"]["runbook"]
    assert base.startswith("http")
    assert base.endswith("/guide/operate/runbook.md")


def test_every_metric_is_in_one_group():
    assert len(METRICS) == len(DURABLE) + len(OBSERVED) + len(ANSWERED)
    assert {"reason", "queue", "because"} <= LABEL_VALUES.keys()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_has_one_place_for_each_panel_and_asks_the_provisioned_source(name):
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    board = DASHBOARDS[name]
    assert board["uid"] == f"movierec-{name}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        at = panel["gridPos"]
        place = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in place) < 24
        assert not place & taken, panel["title"]
        taken |= place
