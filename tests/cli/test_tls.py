"""The TLS options: what they mean, and a service and its caller as real processes that use them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from holdfast.cli.tls import call_tls_options, serve_tls_options
from holdfast.net.trust import TlsConfig
from tests.cli.processes import APP_DIR, holdfast, one_line, running
from tests.net.papers import papers


def read(options: Any, *words: str, **env: str) -> Any:
    """What a verb with such options is handed."""
    handed: list[Any] = []

    @click.command()
    @options
    def verb(tls: TlsConfig | None) -> None:
        handed.append(tls)

    result = CliRunner().invoke(verb, list(words), env=env)
    return handed[0] if handed else result.output or str(result.exception)


@pytest.mark.parametrize("options", [serve_tls_options, call_tls_options])
def test_without_options_there_is_no_tls(options: Any) -> None:
    assert read(options) is None


def test_the_options_of_a_server() -> None:
    tls = read(serve_tls_options, "--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-min", "1.2", HOLDFAST_TLS_KEY_PASSWORD="open")
    assert tls == TlsConfig(certificate="c.pem", key="k.pem", key_password="open", minimum="1.2")
    tls = read(serve_tls_options, "--tls-cert", "c.pem", "--tls-client-trust", "ca.pem")
    assert (tls.clients, tls.client_trust) == ("required", "ca.pem")
    tls = read(serve_tls_options, "--tls-client-optional", HOLDFAST_TLS_CERT="c.pem", HOLDFAST_TLS_CLIENT_TRUST="ca.pem")
    assert (tls.certificate, tls.clients) == ("c.pem", "optional")
    assert "needs --tls-client-trust" in read(serve_tls_options, "--tls-cert", "c.pem", "--tls-client-optional")
    assert "without certificate=" in read(serve_tls_options, "--tls-key", "k.pem")


def test_the_options_of_a_caller() -> None:
    tls = read(call_tls_options, "--tls-trust", "ca.pem", "--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-name", "shop")
    assert tls == TlsConfig(trust="ca.pem", certificate="c.pem", key="k.pem", server_name="shop")


@pytest.mark.slow
def test_a_service_with_tls_is_called_from_a_shell_and_reloads_at_a_hangup(tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    shutil.copy(papers().server, path)
    words = ("serve", "demo_app:svc", "--app-dir", APP_DIR, "--bind", "tls://127.0.0.1:0", "--json")
    with running(*words, "--tls-cert", str(path), "--tls-client-trust", papers().ca) as process:
        address = json.loads(process.out.until('"ready"'))["addresses"][0]
        assert address.startswith("tls://")
        mine = ("--tls-trust", papers().ca, "--tls-cert", papers().client)
        done = holdfast("call", address, "shop.price", "sku=a", "--json", *mine)
        assert (done.returncode, done.stderr) == (0, b"")
        os.replace(papers().issue("127.0.0.1"), path)
        process.tell(signal.SIGHUP)
        assert json.loads(process.out.until('"tls_reloaded"'))["certificate"] == str(path)
        assert holdfast("call", address, "shop.price", "sku=a", *mine).returncode == 0
        path.write_text("broken")
        process.tell(signal.SIGHUP)
        assert str(path) in json.loads(process.out.until('"tls_reload_failed"'))["reason"]
        refused = holdfast("call", address, "shop.price", "sku=a", "--attempts", "1", "--tls-trust", papers().ca)
        assert refused.returncode == 3
        assert "it wants a certificate from us" in one_line(refused)
        process.tell(signal.SIGTERM)
        assert process.code() == 0


def test_mistakes_are_one_line() -> None:
    words = ("serve", "demo_app:svc", "--app-dir", APP_DIR)
    missing = holdfast(*words, "--bind", "tls://127.0.0.1:0")
    assert missing.returncode == 2
    assert "needs a certificate: pass tls=TlsConfig(certificate=…, key=…), or --tls-cert and --tls-key" in one_line(missing)
    unused = holdfast(*words, "--bind", "tcp://127.0.0.1:0", "--tls-cert", papers().server)
    assert "TLS was configured, and tcp://127.0.0.1:0 does not use it; write tls://" in one_line(unused)
