"""Why a container could not be started: what its status shows as a waiting reason."""

from kubelite.agent.podstate import Waiting

#: How long the agent leaves alone what failed for a reason of configuration, unless something that it needs changes.
RETRY_S = 10.0


class StartFault(Exception):
    """A container can't start now. `reason` is a waiting reason such as ErrImagePull or CreateContainerConfigError."""

    def __init__(self, reason: str, message: str, retry_at_s: float) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message, self.retry_at_s = reason, message, retry_at_s

    @property
    def waiting(self) -> Waiting:
        return Waiting(self.reason, self.message, self.retry_at_s)


class ConfigFault(Exception):
    """Something that a container's or volume's configuration names is missing or wrong. The message is shown to users."""
