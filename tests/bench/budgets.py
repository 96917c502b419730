"""The figures that the project holds itself to, beside what the real control plane (Kubernetes 1.34.3, etcd 3.6) reached on a
2-core machine with its load generator on it. Absolute figures move with the machine; compare ratios within one run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    what: str
    unit: str
    real: float | None
    ours: float
    more_is_better: bool = True

    def is_met(self, figure: float) -> bool:
        return figure >= self.ours if self.more_is_better else figure <= self.ours


BUDGETS: dict[str, Budget] = {
    "start_s": Budget("start to /readyz, everything", "s", 3.0, 1.0, more_is_better=False),
    "idle_mb": Budget("resident memory, idle, everything", "MB", 457, 120, more_is_better=False),
    "create_per_s": Budget("create a 1 kB object", "/s", 1510, 3000),
    "get_per_s": Budget("get", "/s", 3330, 10_000),
    "update_per_s": Budget("update", "/s", 1240, 2500),
    "patch_per_s": Budget("patch", "/s", 1170, 2300),
    "delete_per_s": Budget("delete", "/s", 1400, 2800),
    "create_pod_per_s": Budget("create pod", "/s", 1000, 2000),
    "list_ms": Budget("list 5,000 pods, p50", "ms", 169, 30, more_is_better=False),
    "watch_events_per_s": Budget("watch events, 20 watchers", "/s", 24_000, 48_000),
    "bound_plain_per_s": Budget("pods bound, 5,000 nodes, plain", "/s", 263, 1000),
    "bound_spread_per_s": Budget("pods bound, spreading", "/s", 125, 500),
    "bound_antiaffinity_per_s": Budget("pods bound, anti-affinity", "/s", 115, 500),
    "bound_affinity_per_s": Budget("pods bound, affinity", "/s", 118, 500),
    "loaded_mb": Budget("memory, 5,000 nodes and pods", "MB", 2700, 500, more_is_better=False),
    "pod_start_s": Budget("pod create to Running, containerd, p50", "s", 1.55, 0.6, more_is_better=False),
    "burst_50_s": Budget("50 replicas available on one node", "s", 8.2, 6.0, more_is_better=False),
}
