"""Prometheus metrics of the deployer, read from the live objects at each scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.infrastructures.by_nodes import ByNodes


class DeployerCollector(Collector):
    """Collects the figures of one deployer."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """All families, with present values."""
        # Read at the scrape: figures kept beside the truth would drift from it.
        steps = CounterMetricFamily(
            "quarterdeck_deployer_reconcile_steps", "Steps of the reconcile loops.", labels=["infrastructure"]
        )
        failures = CounterMetricFamily("quarterdeck_deployer_reconcile_failures", "Steps that failed.", labels=["infrastructure"])
        sequence = GaugeMetricFamily("quarterdeck_deployer_plan_sequence", "Number of the published plan.", labels=["node"])
        age = GaugeMetricFamily("quarterdeck_deployer_node_report_age_seconds", "Age of the latest report.", labels=["node"])
        for place in self._deployer.infrastructures.values():
            steps.add_metric([place.name], place.counts.steps)
            failures.add_metric([place.name], place.counts.failures)
            if isinstance(place, ByNodes):
                for node, plan in place.reconciler.plans.items():
                    sequence.add_metric([node], plan.sequence)
                for heard in place.nodes.words():
                    age.add_metric([heard.report.node], place.nodes.age(heard.report.node) or 0.0)
        yield steps
        yield failures
        yield sequence
        yield age
        revision = GaugeMetricFamily(
            "quarterdeck_deployer_deployment_applied", "1 where nodes do what the newest revision says.", labels=["deployment"]
        )
        for one in self._deployer.deployments.living():
            revision.add_metric([one.wish.deployment], float(self._deployer.observe(one).applied))
        yield revision
