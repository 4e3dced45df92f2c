"""Certificates for tests: an authority of their own, and what it signed."""

import shutil
import subprocess

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make certificates with")
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_authority(path, name="ca"):
    """Make `NAME.pem` and `NAME.key`."""
    _openssl(path, "req", "-x509", *CURVE, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
             "-out", f"{name}.pem")  # fmt: skip


def make_certificate(path, cert="cert.pem", key="key.pem", addresses=("127.0.0.1",)):
    """Make a certificate for some addresses, for servers and clients, signed by `ca`, which is made if not there."""
    if not (path / "ca.pem").exists():
        make_authority(path)
    _openssl(path, "req", *CURVE, "-subj", "/CN=node", "-keyout", key, "-out", "csr")
    (path / "ext").write_text("subjectAltName=" + ",".join(f"IP:{one}" for one in addresses))
    _openssl(path, "x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
             "-extfile", "ext", "-out", cert)  # fmt: skip


def _openssl(path, *arguments):
    subprocess.run(["openssl", *arguments], cwd=path, check=True, capture_output=True)
