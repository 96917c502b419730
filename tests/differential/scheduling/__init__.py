"""kubelite's scheduler beside a real kube-scheduler 1.34.3: both place the same pods in the same clusters.

`scenario` says how a cluster and what happens in it are written down, `invention` makes scenarios up, `stage` plays one on an API
server, `schedulers` runs the two schedulers, `outcomes` says what became of the pods and what differs.
"""
