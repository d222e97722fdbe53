"""What `make cluster-up` leaves for a person to try: two models of real flights, main and challenger, and what to type next."""

from __future__ import annotations

import json

from demo import data, train
from demo.__main__ import FLIGHTS, WORK
from quarterdeck import package_files
from quarterdeck.client import Client
from quarterdeck.storage import open_storage
from tests.cluster.control import ChartDeployer
from tests.cluster.deployment import KIND
from tests.cluster.installation import NAMESPACE, RELEASE, Installation
from tests.support import ROOT, eventually

MODELS = "models"
NAME = "late-flights-compared"
_EXAMPLE = ROOT / "examples" / "with-challenger.yaml"
_FLIGHT = {
    "weekday": 4, "departure_minute": 1_075, "distance": 2_475, "temp": 71.6, "humid": 84.3, "wind_speed": 12.7, "precip": 0.02,
    "pressure": 1_006.3, "visib": 4.0, "carrier": "B6", "origin": "JFK", "dest": "LAX",
}  # fmt: skip


def prepare(installation: Installation) -> None:
    """Publish both versions where they are not yet, apply the example, and wait until it answers."""
    folders = train.packages(lambda: data.prepared(FLIGHTS, WORK / "flights.parquet"), WORK / "packages")
    with installation.aws():
        store = open_storage(installation.store())
        known = package_files.versions(store, train.MODEL)
        for version, folder in enumerate(folders, start=1):
            if version not in known:
                package_files.push(folder, store, version)
    installation.namespace(MODELS)
    installation.node.kubectl("apply", f"--namespace={MODELS}", f"--filename={_EXAMPLE}")
    for condition in ("Ready", "ChallengerReceiving"):
        wait = ["wait", f"--for=condition={condition}", f"{KIND}/{NAME}", "--timeout=180s"]
        installation.node.kubectl(*wait, f"--namespace={MODELS}")
    eventually(lambda: installation.node.get("service", NAME, MODELS))
    with ChartDeployer(installation, RELEASE, NAMESPACE).client() as client:
        _let_in(client)
        # It adopts what kubectl has applied; from now on the console shows it.
        eventually(lambda: client.deployment(NAME)["observed"]["applied"], every=0.3)


def _let_in(client: Client) -> None:
    """Adopted is what lives in a stage; where the first ones were moved to other namespaces this one gets its own."""
    (row,) = (each for each in client.infrastructures() if each["settings"].get("namespace") == MODELS)
    if not row["stages"]:
        client.put_stage(MODELS, {"position": 9, "infrastructure": row["name"]})


def what_to_type(installation: Installation) -> str:
    """The next commands, each ready to be pasted."""
    node = installation.node
    address = node.get("service", NAME, MODELS)["spec"]["clusterIP"]
    secret = f"get secret {RELEASE}-deployer-tokens --output go-template='{{{{.data.token | base64decode}}}}'"
    return f"""\
Quarterdeck runs on a Kubernetes of this machine's own: operator, deployer, an S3 server, two versions of a model.

  export KUBECONFIG={node.layout.kubeconfig} PATH={node.kubernetes}:$PATH

What there is:
  kubectl get modeldeployments --namespace {MODELS}
  kubectl describe modeldeployment {NAME} --namespace {MODELS}

A prediction, from this machine and by the Service's address:
  curl http://{address}/deployments/{NAME}/predict -H 'content-type: application/json' -d '{json.dumps([_FLIGHT])}'

Version 2 becomes main, version 1 the challenger; nobody waits for it:
  kubectl patch modeldeployment {NAME} --namespace {MODELS} --type=merge \\
    --patch '{{"spec": {{"model": {{"version": 2}}, "challenger": {{"version": 1}}}}}}'

And back:
  kubectl apply --namespace {MODELS} --filename {_EXAMPLE.relative_to(ROOT)}

The console, at http://127.0.0.1:8400/ while the first command runs in a terminal of its own, and its token:
  kubectl port-forward --namespace {NAMESPACE} service/{RELEASE}-deployer 8400
  kubectl --namespace {NAMESPACE} {secret}

There it is the deployment that kubectl has made. The same from here, by the deployer: both versions come to the stage `staging`
through its gates, one after the other, and the last step is taken back:
  export QUARTERDECK_URL=http://127.0.0.1:8400 QUARTERDECK_TOKEN=$(kubectl --namespace {NAMESPACE} {secret})
  .venv/bin/quarterdeck promote {NAME} --to staging --wait
  .venv/bin/quarterdeck promote {NAME} --to staging --version 2 --wait
  .venv/bin/quarterdeck rollback {NAME}-staging --reason "wrong on Fridays"
  .venv/bin/quarterdeck get

Everything of it is gone after:
  make cluster-down
"""
