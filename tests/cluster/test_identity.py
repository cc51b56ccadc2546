"""Roles instead of keys: a token of the pod's service account, as EKS mounts it, traded for credentials."""

import contextlib
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cluster.api import Object
from tests.cluster.releases import Namespace
from tests.published import check_manifest

pytestmark = pytest.mark.timeout(3600)

ROLE = "arn:aws:iam::123456789012:role/catsdogs"
AUDIENCE = "sts.amazonaws.com"
MOUNT = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
ANSWER = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{AWS_ACCESS_KEY_ID}</AccessKeyId><SecretAccessKey>{AWS_SECRET_ACCESS_KEY}</SecretAccessKey>
<SessionToken></SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


@contextlib.contextmanager
def token_service(namespace: Namespace, known: list[Object]) -> Iterator[str]:
    """The address of what trades tokens that the cluster vouches for; it appends its reviews of them to `known`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
            review = namespace.api(
                "POST",
                "/apis/authentication.k8s.io/v1/tokenreviews",
                {"spec": {"token": form["WebIdentityToken"], "audiences": [AUDIENCE]}},
            )
            known.append({"role": form["RoleArn"], **review["status"]})
            good = form["Action"] == "AssumeRoleWithWebIdentity" and review["status"].get("authenticated")
            body = ANSWER.format(**namespace.storage.keys()).encode() if good else b""
            self.send_response(200 if good else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer((namespace.cluster.address, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://{namespace.cluster.address}:{server.server_port}"
        server.shutdown()


def test_projected_token(namespace: Namespace) -> None:
    known: list[Object] = []
    with token_service(namespace, known) as endpoint:
        # What the webhook of EKS adds to pods whose service account has the annotation.
        injected = {
            "AWS_ROLE_ARN": ROLE,
            "AWS_WEB_IDENTITY_TOKEN_FILE": f"{MOUNT}/token",
            "AWS_ENDPOINT_URL_STS": endpoint,
        }
        token = {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}}
        run = namespace.install(
            "pets",
            {
                "credentials": {"existingSecret": ""},
                "storage": {"region": "us-east-1"},
                "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": ROLE}},
                "extraEnv": [{"name": name, "value": value} for name, value in injected.items()],
                "extraVolumes": [{"name": "role", "projected": {"sources": [token]}}],
                "extraVolumeMounts": [{"name": "role", "mountPath": MOUNT, "readOnly": True}],
            },
        ).run
        check_manifest(run.succeed())
    account = f"system:serviceaccount:{namespace.name}:pets-catsdogs-train"
    assert {(review["role"], review["user"]["username"]) for review in known} == {(ROLE, account)}
