"""Groups that others serve: local APIServices, identity headers, and what is refused while a server does not answer."""

import asyncio

from kubelite.api.aggregation import identity_headers
from kubelite.meta.users import User

PATH = "/apis/apiregistration.k8s.io/v1/apiservices"


async def test_every_version_that_is_served_here_has_a_local_service(http):
    async with asyncio.timeout(30):
        while True:
            items = {i["metadata"]["name"]: i for i in (await http.get(PATH)).json["items"]}
            told = {name for name, item in items.items() if (item.get("status") or {}).get("conditions")}
            if {"v1.", "v1.apps", "v2.autoscaling"} <= told:
                break
            await asyncio.sleep(0.05)
    conditions = items["v1.apps"]["status"]["conditions"]
    assert [(c["type"], c["status"], c["reason"]) for c in conditions] == [("Available", "True", "Local")]
    assert items["v1.apps"]["spec"] == {"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15}


async def _condition(http, namespace, service):
    """What the APIService of a service is told to be."""
    name = f"v1.{namespace}.example.com"
    spec = {
        "group": f"{namespace}.example.com",
        "version": "v1",
        "service": {"name": service, "namespace": namespace},
        "groupPriorityMinimum": 1000,
        "versionPriority": 10,
        "insecureSkipTLSVerify": True,
    }
    made = await http.post(PATH, {"metadata": {"name": name}, "spec": spec})
    assert made.status == 201, made.body
    async with asyncio.timeout(30):
        while True:
            status = (await http.get(f"{PATH}/{name}")).json.get("status") or {}
            if status.get("conditions"):
                return status["conditions"][0]
            await asyncio.sleep(0.05)


async def test_a_server_that_does_not_answer_is_told_and_refused(http, namespace):
    condition = await _condition(http, namespace, "none")
    assert condition["reason"] == "ServiceNotFound"
    assert condition["message"] == f'service/none in "{namespace}" is not present'
    answer = await http.get(f"/apis/{namespace}.example.com/v1/things")
    assert (answer.status, answer.body) == (503, b"service unavailable\n")
    groups = [g["name"] for g in (await http.get("/apis")).json["groups"]]
    assert f"{namespace}.example.com" not in groups
    await http("DELETE", f"{PATH}/v1.{namespace}.example.com")


async def test_a_service_has_the_port(http, namespace):
    spec = {"ports": [{"port": 8443}]}
    made = await http.post(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "other"}, "spec": spec})
    assert made.status == 201, made.body
    condition = await _condition(http, namespace, "other")
    assert condition["reason"] == "ServicePortError"
    assert condition["message"] == f'service/other in "{namespace}" is not listening on port 443'
    await http("DELETE", f"{PATH}/v1.{namespace}.example.com")


async def test_a_local_service_is_available_at_once(http, namespace):
    spec = {"group": f"{namespace}.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    made = await http.post(PATH, {"metadata": {"name": f"v1.{namespace}.example.com"}, "spec": spec})
    assert made.status == 201, made.body
    assert [(c["type"], c["status"], c["reason"]) for c in made.json["status"]["conditions"]] == [("Available", "True", "Local")]
    await http("DELETE", f"{PATH}/v1.{namespace}.example.com")


def test_who_asks_is_told_in_headers():
    user = User("jane", ("a", "b"), "7", {"example.com/x": ["1", "2"]})
    assert identity_headers(user) == [
        ("X-Remote-User", "jane"),
        ("X-Remote-Uid", "7"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-example.com%2Fx", "1"),
        ("X-Remote-Extra-example.com%2Fx", "2"),
    ]


def test_names_can_not_smuggle_headers():
    assert identity_headers(User("a\r\nX-Remote-Group: system:masters"))[0] == (
        "X-Remote-User",
        "aX-Remote-Group: system:masters",
    )
