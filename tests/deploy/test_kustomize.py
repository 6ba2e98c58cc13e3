"""The Kustomize base and its example, offline: valid, complete, in agreement with the settings and each other."""

import itertools
import re
import shutil
import subprocess
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

import bridge
from bridge.settings import Settings, SettingsError, load

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy/kustomize/base"
EXAMPLE = ROOT / "deploy/kustomize/example"
DEPLOY_DOC = ROOT / "docs/deploy.md"
OLDEST_KUBERNETES = "1.30"

Manifest = dict[str, Any]


def manifests(directory: Path) -> list[Manifest]:
    """Every manifest of a directory, the kustomization apart."""
    paths = [path for path in sorted(directory.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return list(itertools.chain.from_iterable(yaml.safe_load_all(path.read_text()) for path in paths))


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def of_kind(kind: str) -> list[Manifest]:
    found = [manifest for manifest in manifests(BASE) if manifest["kind"] == kind]
    assert found, f"the base has no {kind}"
    return found


@pytest.fixture
def deployment() -> Manifest:
    [found] = of_kind("Deployment")
    return found


@pytest.fixture
def pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    [found] = pod["containers"]
    return dict(found)


def mount_path(container: Manifest, volume: str) -> str:
    [path] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume]
    return str(path)


def mebibytes(quantity: str) -> int:
    assert quantity.endswith("Mi")
    return int(quantity.removesuffix("Mi"))


def documented_secrets(directory: Path) -> Path:
    """Makes the secrets in `directory` with the very commands of docs/deploy.md, and returns their folder."""
    blocks = re.findall(r"```bash\n(.*?)```", DEPLOY_DOC.read_text(), re.DOTALL)
    [commands] = [block for block in blocks if "mkdir secrets" in block]
    subprocess.run(["bash", "-euc", commands], cwd=directory, check=True)
    return directory / "secrets"


def resolved_environment(container: Manifest, secrets: Path) -> dict[str, str]:
    """The container's environment with the Secret's mount moved to `secrets`."""
    mounted = mount_path(container, "secrets")
    return {entry["name"]: entry["value"].replace(mounted, str(secrets)) for entry in container["env"]}


@pytest.fixture
def settings(container: Manifest, tmp_path: Path) -> Settings:
    """The settings as the pod would load them, with secrets made as documented."""
    return load(BASE / "config.toml", environ=resolved_environment(container, documented_secrets(tmp_path)))


# --- each manifest by itself


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("manifest", [*manifests(BASE), *manifests(EXAMPLE)], ids=named)
def test_manifest_is_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("directory", [BASE, EXAMPLE], ids=lambda path: path.name)
def test_kustomization_names_every_file_and_every_file_is_named(directory: Path) -> None:
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    generated = [file for generator in kustomization["configMapGenerator"] for file in generator["files"]]
    local = [name for name in kustomization["resources"] if not name.startswith("../")]
    assert sorted([*local, *generated, "kustomization.yaml"]) == sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("directory", [BASE, EXAMPLE], ids=lambda path: path.name)
def test_rendered_manifests_are_valid(directory: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here to render with")
    rendering = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=True)
    rendered = list(yaml.safe_load_all(rendering.stdout))
    for manifest in rendered:
        kubernetes_validate.validate(manifest, OLDEST_KUBERNETES, strict=True)
    by_kind = {manifest["kind"]: manifest for manifest in rendered}
    # The hash in its name is what rolls the pods when a setting changes.
    config_map = by_kind["ConfigMap"]["metadata"]["name"]
    assert re.fullmatch(r"aventa-bridge-config-[a-z0-9]{10}", config_map)
    volumes = by_kind["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert [volume["configMap"]["name"] for volume in volumes if "configMap" in volume] == [config_map]
    assert by_kind["ConfigMap"]["data"]["config.toml"] == (directory / "config.toml").read_text()


# --- settings


def test_the_pods_settings_load(settings: Settings, container: Manifest) -> None:
    assert settings.intake.host == settings.admin.host == "0.0.0.0"
    assert settings.redis.url.startswith("redis://"), "three replicas share nothing but an external Redis"
    # What follows --config is the generated ConfigMap's file, where it is mounted.
    config = container["args"][container["args"].index("--config") + 1]
    assert config == f"{mount_path(container, 'config')}/config.toml"


def test_the_examples_settings_load(container: Manifest, tmp_path: Path) -> None:
    load(EXAMPLE / "config.toml", environ=resolved_environment(container, documented_secrets(tmp_path)))


def test_without_its_secret_the_bridge_refuses_to_start() -> None:
    with pytest.raises(SettingsError) as refused:
        load(BASE / "config.toml", environ={})
    assert {fault.path for fault in refused.value.faults} == {"intake.host", "admin.host", "cention.token"}


def test_documented_secrets_are_the_mounted_ones(container: Manifest, tmp_path: Path) -> None:
    mounted = mount_path(container, "secrets")
    for entry in container["env"]:
        assert entry["name"].endswith("_FILE")
        assert entry["value"].startswith(f"{mounted}/")
    wanted = {Path(entry["value"]).name for entry in container["env"]}
    made = documented_secrets(tmp_path)
    assert wanted == {path.name for path in made.iterdir()}
    table = re.findall(r"^\| `([a-z-]+)` \|", DEPLOY_DOC.read_text(), re.MULTILINE)
    assert wanted == set(table)
    # Made twice, they differ: no token comes out of the documentation.
    again = tmp_path / "again"
    again.mkdir()
    made_again = documented_secrets(again)
    for name in wanted - {"redis-url", "cention-token"}:
        [first], [second] = ((folder / name).read_text().splitlines() for folder in (made, made_again))
        assert len(first) >= 32
        assert first != second


def test_the_base_carries_no_secret() -> None:
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    assert "secretGenerator" not in kustomization
    assert not [manifest for manifest in manifests(BASE) if manifest["kind"] == "Secret"]
    for directory in (BASE, EXAMPLE):
        sections = tomllib.loads((directory / "config.toml").read_text())
        keys = [key for section in sections.values() for key in section]
        assert not [key for key in keys if re.search(r"token|secret|password|url$", key) and key != "base_url"]
        assert "redis" not in sections, "Redis's address holds its password: it comes from the Secret"


# --- agreement between manifests


def test_ports_agree(settings: Settings, deployment: Manifest, container: Manifest) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"intake": settings.intake.port, "admin": settings.admin.port}
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == ports["admin"]
    for service in of_kind("Service"):
        [port] = service["spec"]["ports"]
        assert port["port"] == ports[port["targetPort"]]
    assert {service["spec"]["ports"][0]["targetPort"] for service in of_kind("Service")} == set(ports)
    [policy] = of_kind("NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == set(ports)


@pytest.mark.parametrize(
    ("probe", "path"), [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
)
def test_probes_ask_the_admin_listener(settings: Settings, container: Manifest, probe: str, path: str) -> None:
    asked = container[probe]["httpGet"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert asked["path"] == path
    assert ports[asked["port"]] == settings.admin.port


def test_the_admin_side_is_not_published() -> None:
    [admin] = [service for service in of_kind("Service") if service["metadata"]["name"] == "aventa-bridge-admin"]
    assert admin["spec"]["type"] == "ClusterIP"
    [policy] = of_kind("NetworkPolicy")
    [rule] = [rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == "admin"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_selectors_find_the_pods(deployment: Manifest, pod: Manifest) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in of_kind("Service")]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in of_kind("PodDisruptionBudget")]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in of_kind("NetworkPolicy")]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    [account] = of_kind("ServiceAccount")
    assert pod["serviceAccountName"] == account["metadata"]["name"]


def test_the_grace_outlasts_the_drain(settings: Settings, pod: Manifest, container: Manifest) -> None:
    wait_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    listeners_s = 2 * 5  # bridge.runtime.web.serve lets a listener's open requests finish for 5 s, one after the other
    margin_s = 5
    assert pod["terminationGracePeriodSeconds"] >= wait_s + settings.delivery.drain_s + listeners_s + margin_s


def test_a_disruption_leaves_replicas(deployment: Manifest) -> None:
    [budget] = of_kind("PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 3
    assert budget["spec"]["maxUnavailable"] == 1
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


# --- hardening


def test_pods_are_restricted(pod: Manifest, container: Manifest) -> None:
    of_pod, of_container = pod["securityContext"], container["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["runAsUser"] > 0
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container["readOnlyRootFilesystem"] is True
    assert of_container["allowPrivilegeEscalation"] is False
    assert of_container["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_secrets_are_readable_by_the_pods_group_alone(pod: Manifest) -> None:
    [secret] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert secret["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    # A missing Secret must keep the pod from starting.
    assert not secret.get("optional", False)


def test_every_mount_has_its_volume_and_none_needs_a_claim(pod: Manifest, container: Manifest) -> None:
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"tmp", "spool"}


def test_the_spool_fits_its_volume_and_the_volume_the_pod(
    settings: Settings, pod: Manifest, container: Manifest
) -> None:
    workdirs = re.findall(r"^WORKDIR (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    spool = PurePosixPath(workdirs[-1]) / settings.spool.dir
    assert PurePosixPath(mount_path(container, "spool")) in spool.parents, (
        "in a directory of its own, which it can close"
    )
    sizes = {
        volume["name"]: mebibytes(volume["emptyDir"]["sizeLimit"]) for volume in pod["volumes"] if "emptyDir" in volume
    }
    assert sizes["spool"] >= 1.2 * settings.spool.bytes_max / 1024**2
    logs = 64
    assert mebibytes(container["resources"]["limits"]["ephemeral-storage"]) >= sum(sizes.values()) + logs


def test_images_are_pinned_to_this_version(container: Manifest) -> None:
    assert container["image"] == f"aventa-bridge:{bridge.__version__}"
    [image] = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == bridge.__version__
    assert f"aventa-bridge:{bridge.__version__}" in DEPLOY_DOC.read_text()
