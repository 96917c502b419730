"""The values of fields that are enums, which the published definitions leave out.

Source: api/openapi-spec/v3 of Kubernetes v1.34.3. Fields of pods, containers and statuses are not here: pods have checks of
their own, and statuses are not checked.
"""

_TABLE = """
admissionregistration.v1.MatchResources matchPolicy Equivalent Exact
admissionregistration.v1.MutatingWebhook failurePolicy Fail Ignore
admissionregistration.v1.MutatingWebhook matchPolicy Equivalent Exact
admissionregistration.v1.MutatingWebhook sideEffects None NoneOnDryRun Some Unknown
admissionregistration.v1.NamedRuleWithOperations operations[] * CONNECT CREATE DELETE UPDATE
admissionregistration.v1.RuleWithOperations operations[] * CONNECT CREATE DELETE UPDATE
admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec validationActions[] Audit Deny Warn
admissionregistration.v1.ValidatingAdmissionPolicySpec failurePolicy Fail Ignore
admissionregistration.v1.ValidatingWebhook failurePolicy Fail Ignore
admissionregistration.v1.ValidatingWebhook matchPolicy Equivalent Exact
admissionregistration.v1.ValidatingWebhook sideEffects None NoneOnDryRun Some Unknown
apps.v1.StatefulSetSpec podManagementPolicy OrderedReady Parallel
batch.v1.CronJobSpec concurrencyPolicy Allow Forbid Replace
batch.v1.JobSpec completionMode Indexed NonIndexed
core.v1.EndpointPort protocol SCTP TCP UDP
core.v1.NodeSelectorRequirement operator DoesNotExist Exists Gt In Lt NotIn
core.v1.PersistentVolumeClaimSpec volumeMode Block Filesystem
core.v1.PersistentVolumeSpec persistentVolumeReclaimPolicy Delete Recycle Retain
core.v1.PersistentVolumeSpec volumeMode Block Filesystem
core.v1.ServiceSpec ipFamilies[] IPv4 IPv6
core.v1.ServiceSpec ipFamilyPolicy PreferDualStack RequireDualStack SingleStack
discovery.v1.EndpointPort protocol SCTP TCP UDP
discovery.v1.EndpointSlice addressType FQDN IPv4 IPv6
networking.v1.HTTPIngressPath pathType Exact ImplementationSpecific Prefix
networking.v1.NetworkPolicyPort protocol SCTP TCP UDP
networking.v1.NetworkPolicySpec policyTypes[] Egress Ingress
"""


def _read() -> dict[tuple[str, str], frozenset[str]]:
    rows = (line.split() for line in _TABLE.strip().splitlines())
    return {(kind, field): frozenset(values) for kind, field, *values in rows}


#: (type, field, or `field[]` for a list's items) -> the values that it may have.
ENUMS = _read()
