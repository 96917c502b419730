import base64
from pathlib import Path

import jwt
import pytest

from kubelite.auth import authenticators, bootstrap_tokens, reviews
from kubelite.auth.contract import Credentials
from kubelite.auth.tokens import Bound, ServiceAccountTokens
from kubelite.meta import errors
from tests.auth.fakes import StaticInformers, named


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def informers() -> StaticInformers:
    return StaticInformers(
        {
            "serviceaccounts": [named("builder", "ci", "u1")],
            "pods": [named("p", "ci", "u2")],
            "secrets": [],
        }
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, informers: StaticInformers, clock: Clock) -> ServiceAccountTokens:
    return ServiceAccountTokens.load_or_create(tmp_path, informers.lookup, clock=clock)


def test_a_token_identifies_its_service_account_and_pod(tokens: ServiceAccountTokens) -> None:
    issued = tokens.issue("ci", "builder", "u1", pod=Bound("p", "u2"), node=Bound("n1", "u3"))
    user, audiences = tokens.verify(issued.token)
    assert user.name == "system:serviceaccount:ci:builder"
    assert user.uid == "u1"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert user.extra["authentication.kubernetes.io/node-name"] == ["n1"]
    assert audiences == (tokens.issuer,)


def test_the_published_key_verifies_a_token(tokens: ServiceAccountTokens) -> None:
    issued = tokens.issue("ci", "builder", "u1", audiences=["vault"])
    key = jwt.PyJWK.from_dict(tokens.jwks()["keys"][0])
    claims = jwt.decode(
        issued.token, key, audience="vault", options={"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    )
    assert claims["kubernetes.io"]["serviceaccount"] == {"name": "builder", "uid": "u1"}
    assert jwt.get_unverified_header(issued.token)["kid"] == tokens.jwks()["keys"][0]["kid"]
    assert tokens.openid_configuration("https://x/openid/v1/jwks")["issuer"] == claims["iss"]


def test_a_token_ends_with_its_time_its_pod_and_its_account(
    tokens: ServiceAccountTokens, informers: StaticInformers, clock: Clock
) -> None:
    token = tokens.issue("ci", "builder", "u1", pod=Bound("p", "u2"), lifetime_s=600).token
    tokens.verify(token)
    informers.put("pods", named("p", "ci", "another"))
    with pytest.raises(errors.Unauthorized, match="which is gone"):
        tokens.verify(token)
    informers.put("pods", named("p", "ci", "u2"))
    clock.now += 600
    with pytest.raises(errors.Unauthorized, match="expired"):
        tokens.verify(token)
    unbound = tokens.issue("ci", "builder", "u1").token
    informers.drop("serviceaccounts", named("builder", "ci", "u1"))
    with pytest.raises(errors.Unauthorized):
        tokens.verify(unbound)


def test_a_token_for_another_audience_or_of_another_key_is_refused(
    tokens: ServiceAccountTokens, tmp_path: Path, informers: StaticInformers
) -> None:
    with pytest.raises(errors.Unauthorized, match="audience"):
        tokens.verify(tokens.issue("ci", "builder", "u1", audiences=["vault"]).token)
    other = ServiceAccountTokens.load_or_create(tmp_path / "other", informers.lookup)
    with pytest.raises(errors.Unauthorized, match="not valid"):
        tokens.verify(other.issue("ci", "builder", "u1").token)


def test_an_unsigned_token_is_refused(tokens: ServiceAccountTokens) -> None:
    claims = jwt.decode(tokens.issue("ci", "builder", "u1").token, options={"verify_signature": False})
    for forged in (jwt.encode(claims, None, algorithm="none"), jwt.encode(claims, "k" * 32, algorithm="HS256")):
        with pytest.raises(errors.Unauthorized):
            tokens.verify(forged)


def test_a_legacy_token_lives_as_long_as_its_secret_holds_it(tokens: ServiceAccountTokens, informers: StaticInformers) -> None:
    token = tokens.issue_legacy("ci", "builder", "u1", "builder-token")
    with pytest.raises(errors.Unauthorized):
        tokens.verify(token)
    informers.put("secrets", named("builder-token", "ci", data={"token": base64.b64encode(token.encode()).decode()}))
    assert tokens.verify(token)[0].name == "system:serviceaccount:ci:builder"


async def test_the_chain_tells_absent_from_wrong_credentials(tokens: ServiceAccountTokens, informers: StaticInformers) -> None:
    chain = authenticators.Chain.of(tokens, informers.lookup)
    assert await chain.authenticate(Credentials()) is None
    for wrong in ("nonsense", "a.b.c", "abcdef.0123456789abcdef", "x" * 100_000):
        with pytest.raises(errors.Unauthorized):
            await chain.authenticate(Credentials(token=wrong))
    user = await chain.authenticate(Credentials(token=tokens.issue("ci", "builder", "u1").token))
    assert user is not None
    assert user.name == "system:serviceaccount:ci:builder"


async def test_a_bootstrap_token_gives_its_groups_until_it_expires(
    tokens: ServiceAccountTokens, informers: StaticInformers
) -> None:
    token = bootstrap_tokens.generate(description="first node")
    informers.put("secrets", bootstrap_tokens.format_secret(token))
    assert bootstrap_tokens.parse_secret(bootstrap_tokens.format_secret(token)) == token
    chain = authenticators.Chain.of(tokens, informers.lookup)
    user = await chain.authenticate(Credentials(token=token.token))
    assert user is not None
    assert user.name == f"system:bootstrap:{token.id}"
    assert "system:bootstrappers" in user.groups
    with pytest.raises(errors.Unauthorized):
        await chain.authenticate(Credentials(token=f"{token.id}.0000000000000000"))
    expired = bootstrap_tokens.format_secret(token)
    expired["data"]["expiration"] = base64.b64encode(b"2020-01-01T00:00:00Z").decode()
    informers.put("secrets", expired)
    with pytest.raises(errors.Unauthorized, match="expired"):
        await chain.authenticate(Credentials(token=token.token))


async def test_a_bootstrap_token_cannot_give_groups_beyond_bootstrappers(informers: StaticInformers) -> None:
    token = bootstrap_tokens.generate()
    secret = bootstrap_tokens.format_secret(token)
    secret["data"]["auth-extra-groups"] = base64.b64encode(b"system:masters").decode()
    informers.put("secrets", secret)
    with pytest.raises(errors.Unauthorized, match="auth-extra-groups"):
        await authenticators.BootstrapTokens(informers.lookup).authenticate(Credentials(token=token.token))


async def test_a_token_review_answers_for_good_and_bad_tokens(tokens: ServiceAccountTokens, informers: StaticInformers) -> None:
    chain = authenticators.Chain.of(tokens, informers.lookup)
    good = {"spec": {"token": tokens.issue("ci", "builder", "u1", audiences=["vault"]).token, "audiences": ["vault", "other"]}}
    status = (await reviews.token_review(good, chain, tokens))["status"]
    assert status["authenticated"] is True
    assert status["audiences"] == ["vault"]
    assert status["user"]["username"] == "system:serviceaccount:ci:builder"
    bad = (await reviews.token_review({"spec": {"token": "bad"}}, chain, tokens))["status"]
    assert "authenticated" not in bad
    assert bad["error"]
