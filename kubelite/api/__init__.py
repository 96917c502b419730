"""The HTTP face: TLS connections, the request chain, the handlers of each verb, and the loopback client.

It knows HTTP and the registry's verbs; it knows nothing of stores. `app.Api` is what the composition root builds.
"""
