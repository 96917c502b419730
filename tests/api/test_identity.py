"""Who may ask: credentials, impersonation, authorization, and the review APIs."""

import aiohttp
import pytest

from tests.api.conftest import Http


async def token_of(http: Http, namespace: str, name: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await http.post(path, {"metadata": {"name": name}})
    answer = await http.post(f"{path}/{name}/token", {"spec": {}})
    assert answer.status == 201
    assert answer.json["kind"] == "TokenRequest"
    token: str = answer.json["status"]["token"]
    return token


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/readyz?verbose"])
async def test_strangers_may_ask_whether_the_server_lives(stranger, path):
    assert (await stranger.get(path)).status == 200


@pytest.mark.parametrize("path", ["/", "/api", "/apis", "/version", "/metrics", "/api/v1/namespaces", "/openapi/v2"])
async def test_strangers_may_ask_nothing_else(stranger, path):
    answer = await stranger.get(path)
    assert (answer.status, answer.json["reason"]) == (401, "Unauthorized")


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer a.b.c", "Basic YTpi"])
async def test_wrong_credentials_are_unauthorized(stranger, header):
    assert (await stranger.get("/api/v1/namespaces", Authorization=header)).status == 401


async def test_a_service_account_may_do_what_rbac_says(http, stranger, namespace):
    bearer = f"Bearer {await token_of(http, namespace, 'a')}"
    refused = await stranger.get(f"/api/v1/namespaces/{namespace}/pods/p", Authorization=bearer)
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    user = f"system:serviceaccount:{namespace}:a"
    assert refused.json["message"] == (
        f'pods "p" is forbidden: User "{user}" cannot get resource "pods" in API group "" in the namespace "{namespace}"'
    )
    binding = {
        "metadata": {"name": "a"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": namespace}],
    }
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
    assert (await http.post(path, binding)).status == 201
    allowed = await stranger.get(f"/api/v1/namespaces/{namespace}/pods", Authorization=bearer)
    assert allowed.status == 200
    assert (await stranger.get(f"/api/v1/namespaces/{namespace}/secrets", Authorization=bearer)).status == 403


async def test_the_administrator_may_act_as_somebody_else(http, namespace):
    as_jane = {"Impersonate_User": "jane"}
    answer = await http.get("/api/v1/nodes", **as_jane)
    assert answer.status == 403
    assert 'User "jane" cannot list resource "nodes"' in answer.json["message"]
    review = await http.post(
        "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, Impersonate_User="jane", Impersonate_Group="g"
    )
    assert review.json["status"]["userInfo"]["groups"] == ["g", "system:authenticated"]
    assert review.json["metadata"]["creationTimestamp"]


async def test_nobody_else_may(http, stranger, namespace):
    bearer = f"Bearer {await token_of(http, namespace, 'b')}"
    answer = await stranger.get(
        "/api/v1/nodes", Authorization=bearer, Impersonate_User="admin", Impersonate_Group="system:masters"
    )
    assert answer.status == 403
    assert "cannot impersonate resource" in answer.json["message"]


async def test_impersonating_a_group_needs_a_user(http):
    assert (await http.get("/api/v1/nodes", Impersonate_Group="g")).status == 400


async def test_reviews_answer_what_authorization_would(http):
    spec = {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}
    answer = await http.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})
    assert (answer.status, answer.json["status"]["allowed"]) == (201, False)
    own = {"spec": {"resourceAttributes": {"verb": "*", "resource": "*"}}}
    answer = await http.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", own)
    assert answer.json["status"]["allowed"] is True


async def test_a_token_review_knows_the_servers_own_tokens(http, namespace):
    token = await token_of(http, namespace, "c")
    answer = await http.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
    assert answer.json["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:c"
    answer = await http.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "nonsense"}})
    assert "authenticated" not in answer.json["status"]


async def test_token_requests_are_checked(http, namespace):
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    short = await http.post(path, {"spec": {"expirationSeconds": 60}})
    assert (short.status, short.json["reason"]) == (422, "Invalid")
    unknown = await http.post(path, {"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}})
    assert unknown.status == 404


async def test_the_issuer_publishes_its_keys(http):
    document = (await http.get("/.well-known/openid-configuration")).json
    assert document["issuer"] == "https://kubernetes.default.svc.cluster.local"
    assert document["jwks_uri"].endswith("/openid/v1/jwks")
    keys = await http.get("/openid/v1/jwks")
    assert keys.headers["Content-Type"] == "application/jwk-set+json"
    assert keys.json["keys"][0]["alg"] == "ES256"


async def test_a_certificate_of_another_authority_gets_no_connection(running, tmp_path):
    from kubelite.auth.pki import Authority

    pair = Authority.load_or_create(tmp_path).client_certificate("kubernetes-admin", ["system:masters"])
    pem = tmp_path / "x.pem"
    pem.write_bytes(pair.certificate_pem + pair.key_pem)
    tls = running.tls(admin=False)
    tls.load_cert_chain(pem)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{running.server}/api/v1/nodes")
