"""Which certificates are believed, and what is wrong with those that are not."""

from __future__ import annotations

import ssl

from pullcord.notify.channel import DeliveryError


def trusted(ca_file: str | None) -> ssl.SSLContext:
    """Return what decides about certificates; it takes some milliseconds.

    Args:
        ca_file: certificates that are believed instead of the system's.

    Raises:
        DeliveryError: there is no such file, or it holds no certificates.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise DeliveryError(
            f"the certificates in {ca_file} cannot be read: {type(error).__name__}; correct ca_file"
        ) from None


def certificate_trouble(error: BaseException) -> str | None:
    """Return what is wrong where it is about TLS, or None; names and addresses are not in the words."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            reason = seen.verify_message.partition(",")[0]
            return f"the receiver's certificate is not valid ({reason}); correct it there, or set ca_file"
        if isinstance(seen, ssl.SSLError):
            return "no TLS connection can be made with the receiver; does it speak TLS at this port?"
        seen = seen.__cause__ or seen.__context__
    return None
