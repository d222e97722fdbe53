"""Specs of ModelDeployments as people may write them, drawn by Hypothesis: every field, there or not."""

from __future__ import annotations

from hypothesis import strategies as st

DIGEST = "sha256:" + 64 * "0"
names = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\Z")
printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30)
some = st.sampled_from(["a", "0", "late-flights", "true", "1e3"])
counts = st.integers(1, 1_000)
versions = st.integers(1, 10**6)
how = {"trust": st.sampled_from(["data", "code"]), "accelerator": st.sampled_from(["none", "cuda"])}
amounts = st.dictionaries(st.sampled_from(["cpu", "nvidia.com/gpu"]), st.sampled_from([0, 2, "2", "0.5", "500m", "1Gi", "1e3"]))
tolerations = st.fixed_dictionaries(
    {"key": some, "effect": st.just("NoExecute")}, optional={"tolerationSeconds": counts, "value": some}
)
everything = st.fixed_dictionaries({"operator": st.just("Exists")}, optional={"effect": st.sampled_from(["NoSchedule", ""])})
scalings = st.fixed_dictionaries(
    {"maxReplicas": st.integers(3, 9)}, optional={"minReplicas": st.integers(1, 3), "cpuPercent": counts}
)
nodes = st.fixed_dictionaries(
    {},
    optional={
        "challengerReplicas": counts,
        "image": some,
        "templateRevision": counts,
        "resources": st.fixed_dictionaries({}, optional={"requests": amounts, "limits": amounts}),
        "nodeSelector": st.dictionaries(some, printable, max_size=2),
        "tolerations": st.lists(tolerations | everything, max_size=2),
        "imagePullSecrets": st.lists(some, max_size=2),
        "serviceAccount": some,
        "grpc": st.booleans(),
        "env": st.dictionaries(st.sampled_from(["NO", "_x", "A1"]), printable, max_size=2),
    },
)
specs = st.fixed_dictionaries(
    {"model": st.fixed_dictionaries({"name": names, "version": versions}, optional={"digest": st.just(DIGEST), **how})},
    optional={
        "challenger": st.fixed_dictionaries({"version": versions}, optional={"model": some, **how}),
        "project": names,
        "stage": names,
        "service": names,
        "description": printable,
        "access": st.sampled_from(["public", "instance", "project"]),
        "records": st.sampled_from(["spooled", "off"]),
        "running": st.booleans(),
        "attempt": counts,
        "pin": st.fixed_dictionaries(
            {"version": versions, "reason": printable.filter(bool)}, optional={"digest": st.just(DIGEST)}
        ),
        "rollback": st.fixed_dictionaries(
            {},
            optional={
                "automatic": st.booleans(),
                "minRequests": counts,
                "marginPercent": st.integers(0, 100),
                "windowSeconds": st.integers(10, 86_400),
            },
        ),
        "progressSeconds": st.integers(10, 86_400),
        "keyring": some,
        "store": st.fixed_dictionaries({"url": some.map("s3://{}".format)}, optional={"secret": some, "caConfigMap": some}),
        "nodes": nodes.flatmap(lambda one: counts.map(lambda count: {**one, "replicas": count}))
        | nodes.flatmap(lambda one: scalings.map(lambda scaling: {**one, "autoscaling": scaling})),
    },
)
