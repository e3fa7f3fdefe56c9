"""What docker-compose.yml, the Dockerfile and the manifests of Kubernetes name exists, and nothing in them is open."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from movierec_platform import __version__, deploy
from movierec_platform.config import Settings, load_settings, variable_of
from movierec_platform.domain.browsers import OWN_NAMES, refusal
from movierec_platform.infrastructure.provision import PREFIX
from movierec_platform.local.aws import EMULATOR, AwsServer, emulator_environment
from movierec_platform.local.dagster import workspace_file

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = Path(next(iter(deploy.__path__)))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "movierec"}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROGRAMS = {"movierec", "dagster", "dagster-daemon", "locust", "python", "sh"}
STORES, INSTANCE, CLIENT = {"NEO4J_PASSWORD", "MOVIEREC_STATE_URL"}, {"DAGSTER_POSTGRES_URL"}, {"MOVIEREC_API_KEY"}
SECRETS = {
    "api": STORES,
    "exporter": STORES,
    "stream": STORES | INSTANCE,
    "batch": STORES | INSTANCE,
    "dagster": INSTANCE,
    "daemon": INSTANCE,
    "setup": STORES | INSTANCE | CLIENT,
    "locust": CLIENT,
    "emulator": set(),
}
"""What each process needs of what is secret; in compose `setup` is where people run commands too."""
NOT_SETTINGS = {"AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"}
"""Read by boto3."""
CODE_LOCATIONS = set(re.findall(r"env: (\w+)", workspace_file().read_text()))

MANIFESTS: list[dict[str, Any]] = [
    manifest
    for name in yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["resources"]
    for manifest in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
]
PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in MANIFESTS if one["kind"] in ("Deployment", "Job")}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_of_compose_is_reached_from_another_machine(name: str) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in SERVICES[name].get("ports", []))
    assert SERVICES[name].get("network_mode") is None


def test_compose_has_each_service_with_a_health_check() -> None:
    wanted = {"neo4j", "emulator", "postgres", "daemon", "dagster", "stream", "batch", "api", "exporter"}
    assert {*wanted, "setup", "prometheus", "grafana", "locust"} == SERVICES.keys()
    assert all("test" in one["healthcheck"] for name, one in SERVICES.items() if name != "setup")
    ports = [port.split(":")[1] for one in SERVICES.values() for port in one.get("ports", [])]
    assert len(ports) == len(set(ports))
    assert SERVICES["locust"]["profiles"] == ["load"]


def test_a_password_of_compose_comes_from_the_environment_or_stops_it() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "NEO4J_PASSWORD", "GRAFANA_PASSWORD"):
        used = re.findall(rf"\$\{{{name}(.*?)\}}", text)
        assert used
        assert all(one.startswith(":?") for one in used)
    # Whatever is interpolated is a secret: nothing else differs between two machines.
    assert set(re.findall(r"\$\{(\w+)", text)) == {
        "POSTGRES_PASSWORD",
        "NEO4J_PASSWORD",
        "GRAFANA_PASSWORD",
        "MOVIEREC_API_KEY",
    }


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_given_what_they_read(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    command = service["command"]
    assert command[0] in PROGRAMS
    module = next((one.partition("=")[2] for one in command if one.startswith("--module-name")), None)
    assert module is None or (ROOT / f"{module.replace('.', '/')}.py").is_file()
    if name == "emulator":
        assert command == ["python", "-m", EMULATOR]
        bound, least = service["environment"]["BIND_HOST"], AwsServer.min_free_mib
        given = emulator_environment(Path("/var/lib/movierec"), bound, 4566, least, allowed_hosts=name)
        # The image's own are as good, and in it there is no Docker.
        assert service["environment"] == {
            key: text for key, text in given.items() if key not in ("PATH", "HOME", "TMPDIR", "DOCKER_HOST")
        }
        return
    known = {variable_of(field) for field in Settings.model_fields} | NOT_SETTINGS | CODE_LOCATIONS
    assert service["environment"].keys() <= known
    assert service["environment"].keys() >= CODE_LOCATIONS
    assert service["environment"].keys() & (STORES | INSTANCE | CLIENT) == SECRETS[name]


def test_the_settings_of_compose_are_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in OURS["api"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:[?-][^}]*\}", "p", text))
    settings = load_settings({"home": tmp_path})
    assert settings.keys_required
    urls = [settings.raw_queue_url, settings.clean_queue_url, settings.dlq_url]
    assert urls == [f"{settings.aws_endpoint_url}/000000000000/{PREFIX}-{name}" for name in ("raw", "clean", "dlq")]
    assert settings.state_database_url == "postgresql+psycopg2://movierec:p@postgres:5432/movierec"


def test_what_compose_mounts_is_there_and_each_volume_is_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith("./"):
                assert source in COMPOSE["volumes"]
            else:
                assert (ROOT / source).exists(), source


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody_in_particular() -> None:
    stages = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
    assert len(stages) == 2
    for copied in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE):
        for source in copied.split():
            assert (ROOT / source).exists(), source
            top = source.split("/")[0]
            assert f"!{top}\n" in (ROOT / ".dockerignore").read_text(), f"{top} is not in the build's context"
    for lock in re.findall(r"-r (\w+\.lock)", stages[0]):
        assert (DEPLOY / "locks" / lock).is_file()
    assert stages[0].count("--require-hashes") == 2
    assert "arcadedb-embedded" in stages[0].partition("uninstall")[2], "a Java runtime that no container needs"
    assert re.search(r"(?m)^USER (\d+):\1$", stages[1])
    assert re.search(r"(?m)^HEALTHCHECK ", stages[1])
    assert ":latest" not in DOCKERFILE


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == kind}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_locked_in_and_given_what_it_reads(name: str) -> None:
    spec = PODS[name]["spec"]
    (container,) = spec["containers"]
    assert spec["serviceAccountName"] in of_kind("ServiceAccount")
    assert spec["securityContext"]["runAsNonRoot"]
    assert f"USER {spec['securityContext']['runAsUser']}:" in DOCKERFILE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {*OURS["api"]["tmpfs"], "/var/lib/movierec"}
    assert {"requests", "limits"} == container["resources"].keys()
    assert container["envFrom"] == [{"configMapRef": {"name": "movierec"}}]
    assert container["env"] == [
        {"name": one["name"], "valueFrom": {"secretKeyRef": {"name": "movierec", "key": one["name"]}}}
        for one in container["env"]
    ]
    assert {one["name"] for one in container["env"]} == SECRETS.get(name, INSTANCE)
    if name in SERVICES:
        assert container["command"] == SERVICES[name]["command"]
        assert "livenessProbe" in container
        if name != "daemon":
            assert {"startupProbe", "readinessProbe"} <= container.keys()


def test_the_pods_are_those_of_compose_and_their_addresses_are_services() -> None:
    assert PODS.keys() - {f"setup-{__version__.replace('.', '-')}"} == OURS.keys() - {"emulator", "setup", "locust"}
    data = of_kind("ConfigMap")["movierec"]["data"]
    known = {variable_of(field) for field in Settings.model_fields} | NOT_SETTINGS | CODE_LOCATIONS
    assert data.keys() <= known
    services = of_kind("Service")
    for address in (data["DAGSTER_URL"], data["MOVIEREC_API_URL"], data["MOVIEREC_METRICS_URL"]):
        host, port = re.findall(r"http://(\w+):(\d+)", address)[0]
        assert services[host]["spec"]["ports"][0]["port"] == int(port)
    for location in ("STREAM", "BATCH"):
        service = services[data[f"MOVIEREC_{location}_HOST"]]
        assert service["spec"]["ports"][0]["port"] == int(data[f"MOVIEREC_{location}_PORT"])
    # As compose has them, but for what is elsewhere on AWS and what is secret.
    secret = STORES | INSTANCE | CLIENT
    emulated = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"}
    assert data.keys() == OURS["api"]["environment"].keys() - secret - emulated


def test_whatever_selects_pods_finds_them() -> None:
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]
    for manifest in MANIFESTS:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            assert spec["selector"] in labels
        if manifest["kind"] in ("Deployment", "PodDisruptionBudget"):
            assert spec["selector"]["matchLabels"] in labels
        if manifest["kind"] == "HorizontalPodAutoscaler":
            target = of_kind("Deployment")[spec["scaleTargetRef"]["name"]]
            assert "replicas" not in target["spec"], "each apply would undo what the autoscaler did"


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """As Kubernetes does, for what the manifests use of selectors: equal labels, and `In`."""
    wanted = {key: {text} for key, text in selector.get("matchLabels", {}).items()}
    for one in selector.get("matchExpressions", []):
        assert one["operator"] == "In"
        wanted[one["key"]] = set(one["values"])
    return all(labels.get(key) in texts for key, texts in wanted.items())


def rules(pod: str, direction: str) -> list[dict[str, Any]]:
    """What the policies let in (`Ingress`) or out (`Egress`) of this pod."""
    labels = PODS[pod]["metadata"]["labels"]
    policies = [one["spec"] for one in of_kind("NetworkPolicy").values() if selects(one["spec"]["podSelector"], labels)]
    assert any(direction in one["policyTypes"] for one in policies), f"{pod} has no policy: all passes"
    return [rule for one in policies for rule in one.get(direction.lower(), [])]


def peers(pod: str, direction: str) -> set[tuple[str, int | str]]:
    """(pod of this namespace, port) that this pod may hear from, or may ask."""
    way = "from" if direction == "Ingress" else "to"
    return {
        (other, port["port"])
        for rule in rules(pod, direction)
        for peer in rule.get(way, [])
        for other, template in PODS.items()
        if "podSelector" in peer and selects(peer["podSelector"], template["metadata"]["labels"])
        for port in rule["ports"]
    }


def test_pods_reach_each_other_only_where_they_have_to() -> None:
    asks = {
        "api": {("dagster", "http")},
        "dagster": {("stream", "grpc"), ("batch", "grpc")},
        "daemon": {("stream", "grpc"), ("batch", "grpc")},
    }
    for pod in PODS:
        assert peers(pod, "Egress") == asks.get(pod, set())
        heard = {(asker, port) for asker, asked in asks.items() for other, port in asked if other == pod}
        assert peers(pod, "Ingress") == heard
    for name in ("grpc", "http"):
        assert any(
            port["name"] == name for pod in PODS.values() for port in pod["spec"]["containers"][0].get("ports", [])
        )


def test_api_and_exporter_are_reached_from_the_namespaces_that_somebody_labelled() -> None:
    for pod in PODS:
        (outside,) = [[peer for rule in rules(pod, "Ingress") for peer in rule["from"] if "podSelector" not in peer]]
        label = {"namespaceSelector": {"matchLabels": {f"movierec/reaches-{pod}": "true"}}}
        assert outside == ([label] if pod in ("api", "exporter") else [])


def test_out_of_the_namespace_go_the_ports_of_what_a_pod_works_with() -> None:
    databases = {"NEO4J_PASSWORD": 7687, "MOVIEREC_STATE_URL": 5432, "DAGSTER_POSTGRES_URL": 5432}
    for pod, template in PODS.items():
        (container,) = template["spec"]["containers"]
        anywhere = {port["port"] for rule in rules(pod, "Egress") if "to" not in rule for port in rule["ports"]}
        aws = set() if pod.startswith("setup") else {443}
        assert anywhere == {databases[one["name"]] for one in container["env"]} | aws
        blocks = [peer for rule in rules(pod, "Egress") for peer in rule.get("to", []) if "ipBlock" in peer]
        assert all(peer["ipBlock"]["cidr"].startswith("169.254.") for peer in blocks)


def test_dagsters_probes_call_it_by_a_name_of_its_own() -> None:
    (container,) = PODS["dagster"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        (header,) = container[probe]["httpGet"]["httpHeaders"]
        assert header["name"] == "Host"
        assert refusal({"host": header["value"]}, OWN_NAMES) is None


def test_what_others_made_is_pinned_to_its_content() -> None:
    """A tag may be moved to other content; a commit of an action or the digest of an image may not."""
    digest = r"[\w./-]+:v?\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}"
    images = [one["image"] for name, one in SERVICES.items() if name not in OURS]
    images += re.findall(r"(?m)^FROM (\S+)", DOCKERFILE)
    assert len(images) == 6
    assert [image for image in images if not re.fullmatch(digest, image)] == []
    used = re.findall(r"uses: (.+)", (ROOT / ".github/workflows/ci.yml").read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []
    kept = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {"github-actions", "docker", "docker-compose"} <= {one["package-ecosystem"] for one in kept}


def test_the_images_of_kubernetes_are_of_this_release() -> None:
    images = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["images"]
    assert [(one["name"], one["newTag"]) for one in images] == [("movierec", __version__)]
