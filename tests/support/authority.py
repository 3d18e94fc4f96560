"""An authority of a test's own, which signs the certificates of its servers and clients."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True, slots=True)
class Authority:
    """One that nobody trusts by default.

    Attributes:
        made: what signs.
        folder: where files are written.
    """

    made: trustme.CA
    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """A new one, whose own certificate is `ca_certs`."""
        made = cls(trustme.CA(), folder)
        made.made.cert_pem.write_to_path(str(made.ca_certs))
        return made

    @property
    def ca_certs(self) -> Path:
        """The file to name in `ssl_ca_certs`."""
        return self.folder / "ca.pem"

    def serves(self, names: Sequence[str], *, asks: bool = False) -> ssl.SSLContext:
        """A server's side, with a certificate made out to some names; where it asks, clients must show one too."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.made.issue_cert(*names).configure_cert(context)
        if asks:
            self.made.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def certificate(self, name: str) -> Path:
        """A file with a certificate and its key."""
        path = self.folder / f"{name}.pem"
        self.made.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))
        return path
