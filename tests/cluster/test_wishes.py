"""What a deployment's owner may wish besides a version: to rest, to be pinned, to follow the load, other keys, a shadow."""

from __future__ import annotations

import hashlib
import json
import re
import time

import httpx

from quarterdeck.plan import VersionRef
from tests.cluster.deployment import Deployment
from tests.cluster.installation import AUTHORITY, SECRET, Installation
from tests.cluster.load import Load, Tally
from tests.support import eventually

# The kubelet brings new content of a mounted Secret or ConfigMap within its sync period and its cache's time, a minute each.
MOUNT_SECONDS = 180.0


def _nothing_lost(tally: Tally) -> None:
    assert tally.lost == 0, tally.why
    assert tally.sent == tally.answered > 0


def _without_restart(deployment: Deployment, uid: str) -> None:
    (pod,) = deployment.pods()
    assert pod["metadata"]["uid"] == uid
    statuses = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
    assert [each["restartCount"] for each in statuses] == [0, 0]


def test_it_rests_and_serves_again(deployment: Deployment) -> None:
    """Given a deployment that serves, when it shall not run, then no pod is left; when it shall, then it answers as before."""
    deployment.apply(running=False)
    eventually(lambda: not deployment.node.get("pods", namespace=deployment.namespace, **{"quarterdeck.dev/role": "main"}), 60)
    assert eventually(lambda: deployment.resource()["status"]["phase"] == "Stopped", 10)
    began = deployment.apply(running=True)
    deployment.ready(1)
    print(f"\nserves again {time.time() - began:.1f} s after the wish")
    assert eventually(deployment.predict, 10)["version"] == 1


def test_a_pin_overrides_the_model_while_it_is_there(deployment: Deployment) -> None:
    """Given load on version 2, when the spec pins 1 and later lets go, then 1 and then 2 answer, and no request is lost."""
    deployment.apply(model={"name": "versions", "version": 2})
    deployment.ready(2)
    with Load(deployment.installation, deployment.namespace, deployment.name) as load:
        deployment.apply(pin={"version": 1, "reason": "wrong prices since Monday"})
        deployment.ready(1)
        deployment.apply(pin=None)
        deployment.ready(2)
        _nothing_lost(load.end())


def test_an_autoscaler_takes_the_number_over_and_gives_it_back(deployment: Deployment) -> None:
    """Given light load, when heavy load comes and goes, then pods are 1, 3, 1, and numbers are handed over without a dip."""
    small = {"requests": {"cpu": "100m"}}
    deployment.apply(nodes={"resources": small, "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "cpuPercent": 60}})
    deployment.ready(1)
    where = deployment.installation, deployment.namespace, deployment.name
    with Load(*where, kept=2, fresh=1, rate=5) as light:
        deployment.says("AutoscalerActive", "True", within=120)
        began = time.time()
        with Load(*where, kept=24, fresh=0, rate=60) as heavy:
            eventually(lambda: _ready(deployment) == 3, 240, every=1)
            print(f"\n1 → 3 ready pods {time.time() - began:.0f} s after the load came")
            _nothing_lost(heavy.end())
        deployment.apply(nodes={"resources": small, "replicas": 3})
        eventually(lambda: not deployment.node.get("hpa", namespace=deployment.namespace), 30)
        _never_below(deployment, 3, 5.0)
        deployment.apply(nodes={"resources": small, "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "cpuPercent": 60}})
        began = time.time()
        eventually(lambda: _ready(deployment) == 1 == len(deployment.pods()), 400, every=1)
        print(f"3 → 1 pods {time.time() - began:.0f} s after the autoscaler came back")
        _nothing_lost(light.end())


def _ready(deployment: Deployment) -> int:
    main = deployment.node.get("deployment", f"{deployment.name}-main", deployment.namespace)
    return int(main["status"].get("readyReplicas", 0))


def _never_below(deployment: Deployment, number: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert _ready(deployment) >= number


def test_the_stores_credentials_change_without_a_restart(deployment: Deployment) -> None:
    """Given a Secret that the store refuses, when its content is corrected, then the same pod fetches the new version."""
    good = deployment.node.get("secret", SECRET, deployment.namespace)["data"]
    uid = deployment.pods()[0]["metadata"]["uid"]
    _set(deployment, "Secret", SECRET, stringData={"access-key-id": "nobody", "secret-access-key": "0" * 32})
    eventually(lambda: _mounted(deployment, "/etc/quarterdeck/s3/access-key-id") == "nobody", MOUNT_SECONDS, every=2)
    deployment.apply(model={"name": "versions", "version": 2})
    told = deployment.says("ArtifactVerified", "False")
    assert "Secret" in told["message"] or "credentials" in told["message"].lower(), told
    began = time.time()
    _set(deployment, "Secret", SECRET, data=good)
    deployment.ready(2, within=MOUNT_SECONDS + 60)
    print(f"\nthe Secret's new content was used {time.time() - began:.0f} s after it was written")
    _without_restart(deployment, uid)


def test_the_stores_authority_changes_without_a_restart(deployment: Deployment) -> None:
    """Given a ConfigMap with another authority, when its content is corrected, then the same pod fetches the new version."""
    good = deployment.node.get("configmap", AUTHORITY, deployment.namespace)["data"]
    uid = deployment.pods()[0]["metadata"]["uid"]
    other = (deployment.node.layout.folder / "pki" / "s3.crt").read_text()
    _set(deployment, "ConfigMap", AUTHORITY, data={"ca.crt": other})
    eventually(lambda: _mounted(deployment, "/etc/quarterdeck/s3-ca/ca.crt").strip() == other.strip(), MOUNT_SECONDS, every=2)
    began = time.time()
    _set(deployment, "ConfigMap", AUTHORITY, data=good)
    deployment.apply(model={"name": "versions", "version": 2})
    deployment.ready(2, within=MOUNT_SECONDS + 60)
    print(f"\nthe ConfigMap's new content was used {time.time() - began:.0f} s after it was written")
    _without_restart(deployment, uid)


def _set(deployment: Deployment, kind: str, name: str, **content: object) -> None:
    deployment.node.apply(
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": deployment.namespace}, **content}
    )


def _mounted(deployment: Deployment, path: str) -> str:
    pod = deployment.pods()[0]["metadata"]["name"]
    return deployment.node.kubectl("exec", pod, f"--namespace={deployment.namespace}", "--container=agent", "--", "cat", path)


def test_a_key_that_is_taken_from_the_keyring_opens_nothing_more(deployment: Deployment) -> None:
    """Given an instance key that opens, when it leaves the keyring, then it is refused within seconds, and another opens."""
    one, other = _key("one"), _key("other")
    _set(deployment, "ConfigMap", "quarterdeck-keyring", data={"keyring.json": json.dumps([one, other])})
    deployment.apply(access="instance")
    eventually(lambda: (_asked(deployment, "one"), _asked(deployment, "other"), _asked(deployment, "")) == (200, 200, 401), 30)
    began = time.time()
    _set(deployment, "ConfigMap", "quarterdeck-keyring", data={"keyring.json": json.dumps([other])})
    eventually(lambda: _asked(deployment, "one") == 401, 15)
    print(f"\nthe key was refused {time.time() - began:.1f} s after it left the keyring")
    assert _asked(deployment, "other") == 200


def _key(secret: str) -> dict[str, object]:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return {"id": f"key-{secret}", "sha256": digest, "project": "*", "scopes": ["predict"]}


def _asked(deployment: Deployment, secret: str) -> int:
    url = f"{deployment.url}/deployments/{deployment.name}/predict"
    headers = {"X-API-Key": secret} if secret else {}
    return httpx.post(url, json=[{"number": 0.0}], headers=headers, trust_env=False, timeout=20).status_code


def test_a_challenger_gets_rows_and_its_end_harms_nobody(
    deployment: Deployment, installation: Installation, versions: tuple[VersionRef, ...]
) -> None:
    """Given load, when a challenger comes, it answers copies; when its pod is deleted, main loses nothing, and copies follow."""
    assert versions
    with Load(installation, deployment.namespace, deployment.name) as load:
        deployment.apply(challenger={"version": 2})
        deployment.says("ChallengerReceiving", "True", "Mirroring", within=90)
        eventually(lambda: _copies(deployment) > 0, 30)
        (pod,) = (each["metadata"]["name"] for each in deployment.pods("challenger"))
        deployment.node.kubectl("delete", "pod", pod, f"--namespace={deployment.namespace}", "--grace-period=1")
        eventually(lambda: [each for each in deployment.pods("challenger") if each["metadata"]["name"] != pod], 30)
        deployment.says("ChallengerReady", "True", within=90)
        before = _copies(deployment)
        eventually(lambda: _copies(deployment) > before, 30)
        _nothing_lost(load.end())
    assert {each.version for each in load.tally.answers} == {1}


def _copies(deployment: Deployment) -> float:
    """Rows that the challenger has answered, as main counts them."""
    text = httpx.get(f"{deployment.url}/metrics", trust_env=False, timeout=20).text
    found = re.search(r'^quarterdeck_mirror_rows_total\{[^}]*result="answered"[^}]*\} (\S+)$', text, re.MULTILINE)
    assert found, text[:2000]
    return float(found[1])
