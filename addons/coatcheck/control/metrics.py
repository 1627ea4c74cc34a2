"""What is counted, for Prometheus. Labels are names from the policy only: never a value a caller chose."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """One registry per gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "coatcheck_requests", "Exchanges by server and outcome", ["server", "outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "coatcheck_request_seconds", "Time from head to outcome", ["server"], registry=self.registry
        )
        self._scrubbed = Counter(
            "coatcheck_secrets_scrubbed", "Echoed secrets taken out of answers", ["server"], registry=self.registry
        )
        self._pins = Counter(
            "coatcheck_pins", "What became of tools' pins", ["server", "event"], registry=self.registry
        )
        self._counted: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self.held = Gauge("coatcheck_held_calls", "Calls waiting for a reviewer", registry=self.registry)
        self.loop_lag = Gauge("coatcheck_loop_lag_seconds", "How late the event loop is", registry=self.registry)

    def finished(self, *, server: str, outcome: str, seconds: float, scrubbed: int) -> None:
        """Counts one exchange."""
        counted = self._counted.get((server, outcome))
        if counted is None:
            counted = self._requests.labels(server, outcome), self._seconds.labels(server)
            self._counted[server, outcome] = counted
        requests, timing = counted
        requests.inc()
        timing.observe(seconds)
        if scrubbed:
            self._scrubbed.labels(server).inc(scrubbed)

    def pinned(self, *, server: str, event: str) -> None:
        """Counts one event of a tool's pin; `event` is a `PinEvent`."""
        self._pins.labels(server, event).inc()

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self.registry)
