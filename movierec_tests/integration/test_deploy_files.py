"""What docker-compose.yml, the Dockerfile and the manifests of Kubernetes name exists, and nothing in them is open."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from movierec_platform import __version__, deploy
from movierec_platform.config import Settings, load_settings, variable_of
from movierec_platform.infrastructure.provision import PREFIX
from movierec_platform.local.aws import EMULATOR, AwsServer, emulator_environment
from movierec_platform.local.dagster import workspace_file

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = Path(next(iter(deploy.__path__)))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "movierec"}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROGRAMS = {"movierec", "dagster", "dagster-webserver", "dagster-daemon", "locust", "python", "sh"}
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
    assert "--require-hashes" in stages[0]
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
    assert container["envFrom"] == [{"configMapRef": {"name": "movierec"}}, {"secretRef": {"name": "movierec"}}]
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
    secret = {"NEO4J_PASSWORD", "MOVIEREC_STATE_URL", "DAGSTER_POSTGRES_URL", "MOVIEREC_API_KEY"}
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


def test_the_images_of_kubernetes_are_of_this_release() -> None:
    images = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["images"]
    assert [(one["name"], one["newTag"]) for one in images] == [("movierec", __version__)]


def pins(lock: str) -> dict[str, set[str]]:
    """By package, its pins with their conditions."""
    found: dict[str, set[str]] = {}
    for line in re.findall(r"(?m)^([a-z].*?) \\$", (DEPLOY / lock).read_text()):
        requirement = Requirement(line)
        found.setdefault(requirement.name, set()).add(str(requirement.specifier))
    return found


def test_the_images_lock_is_part_of_the_lock() -> None:
    image, whole = pins("requirements-image.lock"), pins("requirements.lock")
    assert {name for name, versions in image.items() if not versions <= whole.get(name, set())} == set()
    assert not {"arcadedb-embedded", "moto", "mypy", "playwright"} & image.keys()
    assert {"dagster-webserver", "granian", "locust", "ministack", "psycopg2-binary"} <= image.keys()
