"""The review APIs: questions that are posted as objects and answered in their status; nothing is stored."""

from typing import TYPE_CHECKING

from kubelite.api.handlers import not_allowed
from kubelite.api.handlers.bodies import read_object
from kubelite.api.handlers.objects import Reply, media_of, reply_with
from kubelite.api.handlers.options import write_options
from kubelite.api.requests import Request
from kubelite.auth import reviews
from kubelite.registry import writes
from kubelite.registry.contract import Target
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    if request.info.verb != "create":
        raise not_allowed()
    media = media_of(request, plain=True)
    options = write_options(request, "CreateOptions")
    sent = await read_object(request, kind, options)
    review = writes.received(Target(kind, request.info.namespace), sent, options)
    match kind.plural:
        case "tokenreviews":
            answer = await reviews.token_review(review, api.authenticator, api.issuer)
        case "selfsubjectreviews":
            answer = reviews.self_subject_review(review, request.user)
        case "subjectaccessreviews":
            answer = reviews.subject_access_review(review, api.authorizer)
        case "selfsubjectaccessreviews":
            answer = reviews.self_subject_access_review(review, request.user, api.authorizer)
        case "localsubjectaccessreviews":
            answer = reviews.local_subject_access_review(review, api.authorizer)
        case _:
            answer = reviews.self_subject_rules_review(review, request.user, api.rbac)
    return reply_with(request, media, None, answer, 201)
