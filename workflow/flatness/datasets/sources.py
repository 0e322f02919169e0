"""Where a published data set comes from, and how to recognise it.

The checksums are those of the published files. The addresses are the publishers' own; the download
code is tested against a server on this machine, the addresses themselves are untested until
someone with a network has run `python -m flatness fetch` without a mirror.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A published data set.

    Attributes:
        folder: name of its folder in a mirror and in the cache of raw files.
        files: file name to checksum, "algorithm:hexadecimal digits".
        address: what a file's name is appended to; or, with `archive`, where the archive is.
        licence: terms of use.
        archive: checksum of the tar archive that the files come in, if they do, under `folder`.
    """

    folder: str
    files: Mapping[str, str]
    address: str
    licence: str
    archive: str | None = None
