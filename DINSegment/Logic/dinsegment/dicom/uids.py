"""New UIDs of DICOM instances: random ones, or ones that follow from what the instance holds."""

from __future__ import annotations

import hashlib
import uuid

from pydicom.uid import RE_VALID_UID_PREFIX, UID, generate_uid

from dinsegment.errors import InputError

LONGEST_ROOT = 53
"""Characters of a UID root: with its dot it leaves ten digits of a UID's 64 characters."""


def check_uid_root(root: str) -> None:
    """Raises InputError unless `root` is an organisation's UID root, such as `1.2.826.0.1.3680043.2.1125`."""
    import re

    if len(root) > LONGEST_ROOT or not re.fullmatch(RE_VALID_UID_PREFIX, root + "."):
        raise InputError(
            f"'{root}' is no UID root: give numbers without leading zeroes, separated by dots, at most {LONGEST_ROOT} "
            "characters."
        )


def derived_uid(root: str | None, *parts: str | bytes) -> UID:
    """The same UID for the same parts: below `root`, or a UUID's under 2.25 (DICOM PS3.5 B.2)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    if root is None:
        return UID(f"2.25.{uuid.UUID(bytes=digest.digest()[:16], version=5).int}")
    return generate_uid(root + ".", [digest.hexdigest()])


class NewUids:
    """Makes the UIDs of one instance.

    Args:
        root: The organisation's UID root; None for UIDs of UUIDs.
        content: What the UIDs follow from; None for random ones.
    """

    def __init__(self, root: str | None, content: bytes | None) -> None:
        self._root = root
        self._content = content

    def __call__(self, what: str) -> UID:
        """A UID for one purpose, such as `instance`; asked twice, a derived one is the same, a random one is not."""
        if self._content is not None:
            return derived_uid(self._root, what, self._content)
        return generate_uid(None if self._root is None else self._root + ".")
