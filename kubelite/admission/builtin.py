"""The plugins of a server, in the order of Kubernetes.

Source: pkg/kubeapiserver/options/plugins.go (AllOrderedPlugins). Beyond its default set: EventRateLimit and
DenyServiceExternalIPs are on, as is NodeRestriction.
"""

from collections.abc import Collection, Iterable

from kubelite.admission import policies, webhooks
from kubelite.admission.chain import Chain, Plugin
from kubelite.admission.contract import Permits
from kubelite.admission.plugins import (
    certificates,
    event_rates,
    external_ips,
    ingress_classes,
    limits,
    namespaces,
    node_restriction,
    node_taints,
    pod_security,
    priorities,
    quotas,
    runtime_classes,
    service_accounts,
    storage,
    tolerations,
)
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.client.webhooks import Caller
from kubelite.schema.kinds import Kinds


def configured_plugins(
    client: Client, informers: Informers, permits: Permits, kinds: Kinds, caller: Caller, note: policies.Note | None = None
) -> list[Plugin]:
    """The plugins that carry out what users configure: webhooks and policies. `note` puts an annotation into the audit log."""
    return [
        webhooks.MutatingWebhooks(client, informers, permits, caller),
        policies.ValidatingPolicies(client, informers, permits, kinds, note),
        webhooks.ValidatingWebhooks(client, informers, permits, caller),
    ]


def plugins(client: Client, informers: Informers, permits: Permits, configured: Iterable[Plugin] = ()) -> list[Plugin]:
    """Every built-in plugin. `configured` (webhooks and policies) come where Kubernetes has them: after all but the quotas,
    which must count what is really stored."""
    return [
        namespaces.NamespaceLifecycle(client, informers),
        limits.LimitRanger(informers),
        service_accounts.ServiceAccount(client, informers),
        node_restriction.NodeRestriction(informers, permits),
        node_taints.TaintNodesByCondition(),
        pod_security.PodSecurity(client, informers),
        priorities.Priority(client, informers),
        tolerations.DefaultTolerationSeconds(),
        event_rates.EventRateLimit(),
        storage.DefaultStorageClass(informers),
        storage.StorageObjectInUseProtection(),
        storage.PersistentVolumeClaimResize(informers),
        runtime_classes.RuntimeClass(client, informers),
        certificates.CertificateApproval(permits),
        certificates.CertificateSigning(permits),
        certificates.CertificateSubjectRestriction(),
        ingress_classes.DefaultIngressClass(informers),
        external_ips.DenyServiceExternalIPs(),
        *configured,
        quotas.ResourceQuota(client, informers),
    ]


def chain(
    client: Client,
    informers: Informers,
    permits: Permits,
    *,
    configured: Iterable[Plugin] = (),
    disabled: Collection[str] = (),
) -> Chain:
    """The chain of a server, without the plugins whose names are in `disabled`."""
    return Chain(plugin for plugin in plugins(client, informers, permits, configured) if plugin.name not in disabled)
