"""UIDs of objects."""

import uuid

from kubelite.meta import uids


def test_uids_are_random_uuids_that_never_repeat() -> None:
    made = [uids.make() for _ in range(1000)]
    assert len(set(made)) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 4
        assert parsed.variant == uuid.RFC_4122
