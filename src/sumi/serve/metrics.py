"""Figures for Prometheus: what the server has answered, and what the engine has to do."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from sumi.engine.engine import Engine
from sumi.engine.job import Event

PLAIN = CONTENT_TYPE_PLAIN_0_0_4
QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """A server's own registry, so that several in a process do not mix."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "sumi_http_request_seconds", "Seconds until a reply began", ("method", "route", "status"), buckets=QUICK, registry=self.registry
        )
        self._ended = Counter("sumi_jobs_ended", "Jobs that came to an end", ("state",), registry=self.registry)
        self._steps = Counter("sumi_steps", "Sampling steps of jobs", registry=self.registry)
        self._pictures = Counter("sumi_pictures", "Pictures made", registry=self.registry)
        for state in ("done", "failed", "cancelled"):
            self._ended.labels(state)
        self.registry.register(self)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def happened(self, event: Event) -> None:
        """Something happened to a job."""
        if event.kind == "step" and event.data["step"] > 0:
            self._steps.inc()
        elif event.kind in ("done", "failed", "cancelled"):
            self._ended.labels(event.kind).inc()
            self._pictures.inc(len(event.data.get("pictures", ())))

    def collect(self) -> Iterator[Metric]:
        """What the engine is at now."""
        jobs = GaugeMetricFamily("sumi_jobs", "Jobs by state", labels=["state"])
        for state, number in self.engine.jobs.counts().items():
            jobs.add_metric([state], number)
        yield jobs
        health = self.engine.health()
        for name, said, value in (
            ("sumi_workers_alive", "Workers that are there", sum(each.alive for each in health)),
            ("sumi_workers_busy", "Workers that have jobs", sum(each.busy for each in health)),
            ("sumi_worker_deaths", "Workers that ended since the server was started", sum(each.deaths for each in health)),
        ):
            yield GaugeMetricFamily(name, said, value=value)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
