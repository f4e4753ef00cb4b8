"""The TLS options of a verb, made into one TlsConfig.

Owned here: `--tls-…` and their HOLDFAST_* names. What may never happen: a password on a command line, where everybody on the machine may
read it; it comes from the environment alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from ..net.trust import TlsConfig
from .options import env_option

PASSWORD = "HOLDFAST_TLS_KEY_PASSWORD"  # noqa: S105 # the name of a variable

_CERT = env_option("--tls-cert", env="TLS_CERT", metavar="FILE", default="", help="Our certificate and what lies below the root, PEM.")
_KEY = env_option("--tls-key", env="TLS_KEY", metavar="FILE", default="", help="Its private key.  [default: in the certificate's file]")


def serve_tls_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb that listens its TLS options, and hand them over as one `tls`: a TlsConfig, or None when none was given."""

    @_CERT
    @_KEY
    @env_option(
        "--tls-client-trust", env="TLS_CLIENT_TRUST", metavar="PATH", default="", help="Require client certificates of this authority."
    )
    @env_option("--tls-client-optional", env="TLS_CLIENT_OPTIONAL", is_flag=True, help="Let clients in without a certificate too.")
    @env_option("--tls-min", env="TLS_MIN", type=click.Choice(["1.2", "1.3"]), default="1.3", show_default=True, help="The oldest version.")
    @functools.wraps(verb)
    def wrapped(
        *args: Any, tls_cert: str, tls_key: str, tls_client_trust: str, tls_client_optional: bool, tls_min: Any, **kwargs: Any
    ) -> Any:
        tls = None
        if tls_client_optional and not tls_client_trust:
            raise click.UsageError("--tls-client-optional needs --tls-client-trust: which authority to believe")
        if tls_cert or tls_key or tls_client_trust:
            tls = TlsConfig(
                certificate=tls_cert,
                key=tls_key,
                key_password=os.environ.get(PASSWORD),
                clients="none" if not tls_client_trust else "optional" if tls_client_optional else "required",
                client_trust=tls_client_trust,
                minimum=tls_min,
            )
        return verb(*args, tls=tls, **kwargs)

    return wrapped


def call_tls_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb that connects its TLS options, and hand them over as one `tls`: a TlsConfig, or None when none was given."""

    @env_option("--tls-trust", env="TLS_TRUST", metavar="PATH", default="", help="The authority to believe.  [default: the system's]")
    @_CERT
    @_KEY
    @env_option("--tls-name", env="TLS_NAME", metavar="NAME", default="", help="The name to expect in the server's certificate.")
    @functools.wraps(verb)
    def wrapped(*args: Any, tls_trust: str, tls_cert: str, tls_key: str, tls_name: str, **kwargs: Any) -> Any:
        tls = None
        if tls_trust or tls_cert or tls_key or tls_name:
            password = os.environ.get(PASSWORD)
            tls = TlsConfig(trust=tls_trust, certificate=tls_cert, key=tls_key, key_password=password, server_name=tls_name)
        return verb(*args, tls=tls, **kwargs)

    return wrapped
