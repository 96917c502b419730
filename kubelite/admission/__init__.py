"""Admission: what is decided about a write after who may make it, and before it is stored.

The registry calls one `chain.Chain`; the plugins in plugins/ are built in, `webhooks` and `policies` are those that users
configure. Plugins read through informers and write through a client; they never see the store.
"""
