"""kubelite's answers beside those of a real Kubernetes 1.34.3, request by request; `corpus` says how the requests are written."""
