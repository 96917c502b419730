"""The default profile: the plugins in the order in which Kubernetes runs them.

To add one: a module in plugins/ with a class that satisfies `framework.Filter` or `framework.Score` (or both), a line in
`filters` or `scores` here, and a test in tests/scheduler/.

Source: pkg/scheduler/apis/config/v1/default_plugins.go, v1.34.
"""

from kubelite.scheduler.framework import Filter, Framework, Score
from kubelite.scheduler.owners import Owners
from kubelite.scheduler.plugins.dynamicresources import DynamicResources
from kubelite.scheduler.plugins.imagelocality import ImageLocality
from kubelite.scheduler.plugins.interpodaffinity import InterPodAffinity
from kubelite.scheduler.plugins.nodeaffinity import NamedNodes, NodeAffinity
from kubelite.scheduler.plugins.nodename import NodeName
from kubelite.scheduler.plugins.nodeports import NodePorts
from kubelite.scheduler.plugins.noderesources import BalancedAllocation, NodeResourcesFit
from kubelite.scheduler.plugins.nodeunschedulable import NodeUnschedulable
from kubelite.scheduler.plugins.nodevolumelimits import NodeVolumeLimits
from kubelite.scheduler.plugins.podtopologyspread import PodTopologySpread
from kubelite.scheduler.plugins.tainttoleration import TaintToleration
from kubelite.scheduler.plugins.volumebinding import VolumeBinding
from kubelite.scheduler.plugins.volumerestrictions import VolumeRestrictions
from kubelite.scheduler.plugins.volumezone import VolumeZone
from kubelite.scheduler.volumes import Volumes


def default(owners: Owners, volumes: Volumes) -> Framework:
    """The plugins of the default profile. `owners` and `volumes` are what they look at beside nodes and pods."""
    taints, affinity, fit = TaintToleration(), NodeAffinity(), NodeResourcesFit()
    spread, inter_pod = PodTopologySpread(owners), InterPodAffinity()
    filters: list[Filter] = [NamedNodes(), NodeUnschedulable(), NodeName(), taints, affinity, NodePorts(), fit]
    filters += [VolumeRestrictions(volumes), NodeVolumeLimits(volumes), VolumeBinding(volumes), VolumeZone(volumes)]
    filters += [spread, inter_pod, DynamicResources()]
    scores: list[Score] = [taints, affinity, fit, spread, inter_pod, BalancedAllocation(), ImageLocality()]
    return Framework(filters, scores)
