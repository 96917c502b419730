"""Connections that left HTTP: WebSocket and SPDY framing, and the protocols of exec, attach and port-forward over them."""
