"""Certificates for tests of TLS, made by openssl when needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

PASSWORD = "changeit"


def self_signed(folder: Path, name: str, common_name: str) -> tuple[Path, Path]:
    """Make ``NAME.pem`` and ``NAME.key`` for a host that is only called `common_name`."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    _run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "2", "-subj", f"/CN={common_name}", "-addext", f"subjectAltName=DNS:{common_name}"),
        *("-keyout", key, "-out", certificate),
    )
    key.chmod(0o644)
    return certificate, key


def make_for_broker(folder: Path) -> None:
    """Make what the ``auth`` broker needs: its certificate for ``localhost`` and one of a client it trusts."""
    certificate, key = self_signed(folder, "broker", "localhost")
    _run(
        *("openssl", "pkcs12", "-export", "-in", certificate, "-inkey", key, "-name", "broker"),
        *("-out", folder / "broker.p12", "-passout", f"pass:{PASSWORD}"),
    )
    client, _ = self_signed(folder, "client", "client.example")
    _run(
        *("keytool", "-importcert", "-noprompt", "-alias", "client", "-file", client),
        *("-keystore", folder / "clients.p12", "-storetype", "PKCS12", "-storepass", PASSWORD),
    )


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
