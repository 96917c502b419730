"""Generated from proto/ by scripts/proto: the CRI and the parts of containerd's API that its backend uses."""
