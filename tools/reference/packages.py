"""docs/reference/package-manifest.md, resources.md and store-layout.md: the documents that people write or read."""

from __future__ import annotations

from typing import Any

from quarterdeck import record_files
from quarterdeck.manifest import Manifest
from quarterdeck.resource_status import DeploymentStatus
from quarterdeck.resources import ModelDeployment
from tools.reference.tables import model_tables, table

MANIFEST = """\
# The manifest of a package

`manifest.json` describes a version completely; the sha256 of its bytes is the version's digest. It is written
canonically: keys sorted, no spaces, UTF-8, members that are null left out. See [packages](../concepts/package.md) for
what they are for.

"""
RESOURCES = """\
# The YAML of a deployment

`quarterdeck apply -f FILE` and, in a cluster, `kubectl apply -f FILE` take documents like this one; a file may hold several,
divided by `---`. More of them lie in [examples](../../examples).

```yaml
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata: {name: late-flights}
spec:
  model: {name: late-flights, version: 1}
  challenger: {version: 2}
  access: public
  nodes: {replicas: 3}
```

Both take the same fields and keep the same rules. What only a cluster has is without effect on a laptop, and `apply` says so
there: `nodes`, `store` and `keyring`. In a cluster a name has at most 40 characters and begins with a letter.

"""
STATUS = """\

## The status

In a cluster the operator writes below `status` what it sees; `kubectl get md` and `kubectl describe md` show it.

"""
STORE = """\
# The store's layout

A store is a folder, or a bucket with a prefix (`s3://bucket/prefix`). Keys are the same in both.

| key | what |
|---|---|
| `models/<model>/<version>/manifest.json` | a version's manifest; written last, once, where absent; a tombstone later |
| `blobs/sha256/<hex>` | a file of any package, by the digest of its bytes |
| `records/<deployment>/main/dt=YYYY-MM-DD/hh=HH/<name>.parquet` | what main answered, by the UTC hour of the record |
| `records/<deployment>/challenger/dt=YYYY-MM-DD/hh=HH/<name>.parquet` | what became of the mirrored rows |

In a cluster `<deployment>` is `<namespace>.<name>`. A record file's name is `<boot>-<first>-<last>-<digest8>`: the boot of
the node that wrote it, its first and last sequence number, and eight characters of the version's digest. Delivery is at
least once: readers keep one row per `row_id`.

"""


def manifest_page() -> str:
    """The manifest's members."""
    return MANIFEST + model_tables(Manifest)


def resources_page() -> str:
    """The deployment's members, and those of its status."""
    return RESOURCES + model_tables(ModelDeployment) + STATUS + model_tables(DeploymentStatus)


def store_page() -> str:
    """Keys, and the columns of the records."""
    return (
        STORE
        + "## Columns of main's records\n\n"
        + _columns(record_files.MAIN_COLUMNS)
        + "| `features` | struct | the row, typed by the version's schema |\n"
        + "| `features_json` | string | the row as JSON, where the schema is not known or a value does not fit it |\n"
        + "\n## Columns of the challenger's records\n\n"
        + _columns(record_files.CHALLENGER_COLUMNS)
    )


MEANINGS = {
    "ts": "when it was answered",
    "row_id": "id of the row: `<request id>-<row>`; joins both data sets",
    "request_id": "id of the request, as answered",
    "row": "index of the row in its request, from 0",
    "caller_id": "the caller's own id of the request; empty where none was sent",
    "deployment": "its name",
    "project": "project of the deployment",
    "stage": "stage of the deployment",
    "revision": "revision that answered",
    "door": "protocol that the request came by",
    "latency_us": "microseconds that the answer took",
    "model": "model that answered",
    "version": "its version",
    "digest": "digest of that version",
    "prediction": "JSON: a label, or a number",
    "scores": "score of each class, in the order of the schema's classes; empty for regression",
    "key_id": "public part of the API key; empty where none was needed",
    "boot": "boot of the node that wrote it",
    "seq": "sequence number in that boot",
    "result": "`answered`, `failed`, `expired` or `dropped`",
    "error_code": "why there is no answer",
}


def _columns(schema: Any) -> str:
    return table(["column", "type", "meaning"], [[f"`{field.name}`", str(field.type), MEANINGS[field.name]] for field in schema])
