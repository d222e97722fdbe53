"""Prometheus metrics of the deployer, read from the live objects at each scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.nodes import NODES


class DeployerCollector(Collector):
    """Collects the figures of one deployer."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """All families, with present values."""
        # Read at the scrape: figures kept beside the truth would drift from it.
        counts = self._deployer.reconciler.counts
        yield CounterMetricFamily("quarterdeck_deployer_reconcile_steps", "Steps of the reconcile loop.", counts.steps)
        yield CounterMetricFamily("quarterdeck_deployer_reconcile_failures", "Steps that failed.", counts.failures)
        sequence = GaugeMetricFamily("quarterdeck_deployer_plan_sequence", "Number of the published plan.", labels=["node"])
        age = GaugeMetricFamily("quarterdeck_deployer_node_report_age_seconds", "Age of the latest report.", labels=["node"])
        for node in NODES:
            plan, seconds = self._deployer.reconciler.plans.get(node), self._deployer.nodes.age(node)
            if plan is not None:
                sequence.add_metric([node], plan.sequence)
            if seconds is not None:
                age.add_metric([node], seconds)
        yield sequence
        yield age
        revision = GaugeMetricFamily(
            "quarterdeck_deployer_deployment_applied", "1 where nodes do what the newest revision says.", labels=["deployment"]
        )
        for one in self._deployer.deployments.living():
            revision.add_metric([one.wish.deployment], float(self._deployer.observe(one).applied))
        yield revision
