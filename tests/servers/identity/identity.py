"""Identities for the suite s3-access: an OpenID provider, and the credentials endpoint of a container's host.

Usage: identity.py PORT DIR STORE SECONDS

DIR has ca.crt, the certificate authority of the object store at STORE (https), and authorization, the token that the
container presents. A container's credentials are issued by the store (AssumeRoleWithWebIdentity), and expire after
SECONDS.
"""

import base64
import http.server
import json
import pathlib
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import xml.etree.ElementTree

PORT, DIR, STORE, SECONDS = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ISSUER = f"http://127.0.0.1:{PORT}"
KEY = DIR / "identity.key"
CONTEXT = ssl.create_default_context(cafile=str(DIR / "ca.crt"))
STS = "{https://sts.amazonaws.com/doc/2011-06-15/}"
LOCK = threading.Lock()
HANDED_OUT = []


def openssl(*args, given=None):
    return subprocess.run(["openssl", *args], input=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=True).stdout


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(seconds):
    """Makes a token, signed with RS256, whose bearer may read and write in the store."""
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "a-node", "aud": "highwater", "iat": now, "exp": now + seconds, "policy": "readwrite"}
    parts = [url64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1", "typ": "JWT"}, claims)]
    signature = openssl("dgst", "-sha256", "-sign", str(KEY), given=".".join(parts).encode())
    return ".".join([*parts, url64(signature)])


def credentials():
    query = urllib.parse.urlencode({"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15",
                                    "WebIdentityToken": token(SECONDS)})
    request = urllib.request.Request(f"{STORE}/?{query}", data=b"", method="POST")
    with urllib.request.urlopen(request, context=CONTEXT, timeout=10) as answer:
        found = xml.etree.ElementTree.fromstring(answer.read()).find(f".//{STS}Credentials")
    of = {child.tag.removeprefix(STS): child.text for child in found}
    with LOCK:
        HANDED_OUT.append(of["AccessKeyId"])
    return {"AccessKeyId": of["AccessKeyId"], "SecretAccessKey": of["SecretAccessKey"], "Token": of["SessionToken"],
            "Expiration": of["Expiration"]}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/.well-known/openid-configuration":
            self.answer(200, {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys", "response_types_supported": ["id_token"],
                              "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"]})
        elif self.path == "/keys":
            text = openssl("rsa", "-in", str(KEY), "-noout", "-modulus").decode().strip()
            modulus = url64(bytes.fromhex(text.removeprefix("Modulus=")))
            self.answer(200, {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": modulus, "e": "AQAB"}]})
        elif self.path == "/store":
            try:
                with urllib.request.urlopen(f"{STORE}/minio/health/ready", context=CONTEXT, timeout=10) as ready:
                    self.answer(ready.status, {})
            except OSError as error:
                self.answer(503, {"error": str(error)})
        elif self.path == "/token":
            self.answer(200, {"token": token(3600)})
        elif self.path == "/handed-out":
            self.answer(200, {"count": len(HANDED_OUT), "different": len(set(HANDED_OUT))})
        elif self.path == "/credentials" and self.headers["Authorization"] == (DIR / "authorization").read_text():
            self.answer(200, credentials())
        elif self.path == "/credentials":
            self.answer(403, {"code": "AccessDenied", "message": "the authorization token is another"})
        else:
            self.answer(404, {})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


openssl("genrsa", "-out", str(KEY), "2048")
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
