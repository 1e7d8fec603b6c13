"""Who may open the workspace, and the places that give out its tokens.

- The workspace's own: "Authorize service principal access with OAuth" (docs.databricks.com),
  ``POST /oidc/v1/token`` with the client's id and secret as Basic, for the scope ``all-apis``.
- Microsoft Entra's: "OAuth 2.0 client credentials flow" (learn.microsoft.com),
  ``POST /<tenant>/oauth2/v2.0/token``, for the scope of Azure Databricks.
- An Azure machine's: "Azure Instance Metadata Service" and "Use managed identities on a virtual
  machine to acquire access token", which answer only to the header ``Metadata: true``.

A token ends: by default after an hour, as theirs do.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from databricks_workspace.fields import ApiError

# Azure Databricks' application, the same in every tenant.
DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
LOGIN_HOST = "login.microsoftonline.com"
_ISSUER = f"https://{LOGIN_HOST}"
Answer = tuple[int, dict[str, Any]]


@dataclass
class Logins:
    """A service principal, a machine's identity, and the tokens that were given to them.

    Attributes:
        has_identity: Whether the machine was assigned an identity.
        is_azure: Whether the machine is one of Azure's at all.
        seconds: How long a token is valid.
        given: The tokens that were given out, each with its end, epoch seconds.
    """

    client: str = "7c0b6a2e-0000-4000-8000-1d2e3f405162"
    secret: str = "dose0123456789-of-the-service-principal"  # noqa: S105  a test's own
    tenant: str = "11111111-2222-4333-8444-555555555555"
    has_identity: bool = True
    is_azure: bool = True
    seconds: int = 3600
    given: dict[str, float] = field(default_factory=dict)

    def check(self, authorization: str, personal: str) -> None:
        """Let in who shows a token that is valid now.

        Raises:
            ApiError: As the service answers: 401 without a token, 403 with one that is not valid.
        """
        kind, _, token = authorization.partition(" ")
        if kind != "Bearer" or not token:
            raise ApiError(401, "UNAUTHENTICATED", "Credential was not sent")
        if token != personal and self.given.get(token, 0) < time.time():
            raise ApiError(403, "403", "Invalid access token.")

    def answer(
        self, host: str, path: str, asked: Mapping[str, str], headers: Mapping[str, str]
    ) -> Answer:
        """Answer a request of any of the three places."""
        if path.startswith("/metadata/"):
            return self._machine(path, asked, headers)
        if path == "/oidc/v1/token":
            return self._workspace(asked, headers.get("Authorization", ""))
        if host == LOGIN_HOST:
            return self._entra(path, asked)
        return 404, {"error": "not_found"}

    def _workspace(self, asked: Mapping[str, str], authorization: str) -> Answer:
        if asked.get("grant_type") != "client_credentials" or asked.get("scope") != "all-apis":
            return 400, {"error": "invalid_request", "error_description": "Unknown grant or scope"}
        own = base64.b64encode(f"{self.client}:{self.secret}".encode()).decode()
        if authorization != f"Basic {own}":
            told = "Client authentication failed"
            return 401, {"error": "invalid_client", "error_description": told}
        known = {"token_type": "Bearer", "scope": "all-apis", "expires_in": self.seconds}
        return 200, known | {"access_token": self._token()}

    def _entra(self, path: str, asked: Mapping[str, str]) -> Answer:
        tenant, _, rest = path.lstrip("/").partition("/")
        if path.startswith("/common/discovery/instance"):
            return 200, {"tenant_discovery_endpoint": "", "metadata": []}
        if tenant != self.tenant:
            told = f"AADSTS90002: Tenant '{tenant}' not found."
            return 400, {"error": "invalid_tenant", "error_description": told}
        if rest == "v2.0/.well-known/openid-configuration":
            begin = f"{_ISSUER}/{tenant}/oauth2/v2.0"
            known = {"issuer": f"{_ISSUER}/{tenant}/v2.0", "token_endpoint": f"{begin}/token"}
            return 200, known | {"authorization_endpoint": f"{begin}/authorize"}
        known_path = rest == "oauth2/v2.0/token"
        return self._entra_token(asked) if known_path else (404, {"error": "not_found"})

    def _entra_token(self, asked: Mapping[str, str]) -> Answer:
        if asked.get("client_id") != self.client or asked.get("client_secret") != self.secret:
            told = f"AADSTS7000215: Invalid client secret provided for app '{self.client}'."
            return 401, {"error": "invalid_client", "error_description": told}
        if asked.get("scope", "").split() != [f"{DATABRICKS}/.default"]:
            return 400, {"error": "invalid_scope", "error_description": "AADSTS70011: scope"}
        known = {"token_type": "Bearer", "expires_in": self.seconds, "ext_expires_in": self.seconds}
        return 200, known | {"access_token": self._token()}

    def _machine(self, path: str, asked: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        if not self.is_azure or headers.get("Metadata") != "true" or "api-version" not in asked:
            return 400, {"error": "Bad request. Required metadata header not specified"}
        if path == "/metadata/instance":
            return 200, {"compute": {"azEnvironment": "AzurePublicCloud", "name": "airflow"}}
        if path != "/metadata/identity/oauth2/token" or asked.get("resource") != DATABRICKS:
            return 400, {"error": "invalid_resource", "error_description": "AADSTS500011"}
        if not self.has_identity:
            return 400, {"error": "invalid_request", "error_description": "Identity not found"}
        end = {"expires_in": str(self.seconds), "expires_on": str(int(time.time()) + self.seconds)}
        known = {"token_type": "Bearer", "resource": DATABRICKS, "access_token": self._token()}
        return 200, known | end

    def _token(self) -> str:
        token = f"eyJ-{uuid.uuid4()}-of-an-identity"
        self.given[token] = time.time() + self.seconds
        return token
