"""What JSON Schema cannot say of the interface: values that depend on others, or on what was sent before.

Each hook changes requests that the document calls valid, and only in what its docstring names. Everything
else that a generated request has reaches the server as it is, and no check is turned off.
"""

import datetime
import os
import uuid

import schemathesis

HOUR = datetime.timedelta(hours=1)
# The longest period that has at most 2,000 windows of an hour, with room for the days at its ends. Minutes
# have 30 hours.
HOURS_MAX = 1_900
YEARS = (2000, 2998)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict) -> None:
    """Runs before each request."""
    use_a_new_idempotency_key(case)
    spare_what_the_test_needs(case)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    order_the_period(case)
    ask_a_meter(case)
    use_the_key_of_the_project(case)
    ask_a_batch(case)
    manage_what_exists(case)


def ask_a_batch(case: schemathesis.Case) -> None:
    """Ask for the state of a batch that exists."""
    if case.operation.path == "/v1/batches/{id}":
        case.path_parameters["id"] = os.environ["MILLRACE_BATCH"]


def spare_what_the_test_needs(case: schemathesis.Case) -> None:
    """The first two keys are those of the project of the test: the third one may be rotated and revoked.

    The meter of limits and thresholds stays; others may be deleted.
    """
    parameters = case.path_parameters or {}
    if str(parameters.get("key_id")) in ("1", "2"):
        parameters["key_id"] = 3
    if parameters.get("slug") == "tokens":
        parameters["slug"] = "other"


def manage_what_exists(case: schemathesis.Case) -> None:
    """Lets a plan, a project and a meter exist, and a new name or key be free.

    An address is one, and a customer has at most 200 bytes.
    """
    if not case.operation.path.startswith("/v1/admin/"):
        return
    body = case.body if isinstance(case.body, dict) else {}
    if "plan" in body:
        body["plan"] = "enterprise"
    for name in ("key", "name", "slug"):
        if name in body:
            body[name] = f"n{uuid.uuid4()}"
    for name, existing in (("meter", "tokens"), ("url", "https://hooks.example/in")):
        if name in body:
            body[name] = existing
    for question in (body, case.query or {}):
        if isinstance(question.get("subject"), str):
            question["subject"] = question["subject"][:50]
    if "slug" in case.path_parameters or case.operation.path.startswith("/v1/admin/projects/{name}"):
        case.path_parameters["name"] = "managed"


def use_a_new_idempotency_key(case: schemathesis.Case) -> None:
    """A key that was used for another body is 422, and only the server knows which keys were used."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and key and key.isascii() and key.isprintable() and " " not in key and len(key) <= 255:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())


def order_the_period(case: schemathesis.Case) -> None:
    """A period begins before it ends, at full hours, and has at most 2,000 windows.

    Without one of its limits, that depends on the clock.
    """
    if case.operation.path not in ("/v1/usage", "/v1/rejections") or not {
        "from",
        "to",
    } & set(case.query or {}):
        return
    limits = {name: full_hour(case.query[name]) for name in ("from", "to") if name in case.query}
    start = limits.get("from", limits.get("to"))
    hours = int(abs(limits.get("to", start) - start) / HOUR) % HOURS_MAX + 1
    case.query["from"] = written(start, like=case.query.get("from"))
    case.query["to"] = written(start + hours * HOUR)


def ask_a_meter(case: schemathesis.Case) -> None:
    """Ask a meter that exists, with its groups, a time zone, one kind of filters, and a period as above."""
    if "/meters/{id}" not in case.operation.path:
        return
    case.path_parameters["id"] = os.environ["MILLRACE_METER"]
    if not case.operation.path.endswith("/query"):
        return
    question = case.body if case.operation.method.upper() == "POST" else case.query
    if not isinstance(question, dict):
        return
    for zone in ("timezone", "windowTimeZone"):
        if zone in question:
            question[zone] = "Europe/Berlin"
    if any(name.startswith("filterGroupBy") for name in question):
        question.pop("advancedMeterGroupByFilters", None)
    use_the_groups_of_the_meter(question)
    # Without limits, the number of windows depends on the clock.
    if {"from", "to", "window", "windowSize"} & set(question):
        start = full_hour(question.get("from") or question.get("to") or "2026-01-01")
        by_minute = str(question.get("window") or question.get("windowSize")).lower() == "minute"
        hours = start.toordinal() % (30 if by_minute else HOURS_MAX) + 1
        question["from"], question["to"] = written(start), written(start + hours * HOUR)


def use_the_groups_of_the_meter(question: dict) -> None:
    """The meter of the test has one group."""
    for name in ("group_by", "groupBy"):
        if question.get(name):
            question[name] = ["subject", "model"]
    for name in [name for name in question if name.startswith(("filter[", "filterGroupBy["))]:
        question[name.split("[")[0] + "[model]"] = question.pop(name)
    for name in ("filter", "filterGroupBy", "advancedMeterGroupByFilters"):
        if isinstance(question.get(name), dict):
            values = list(question[name].values())
            question[name] = {"model": values[-1]} if values else {}
        elif isinstance(question.get(name), str):
            question[name] = '{"model": {"$eq": "large"}}'


def full_hour(text: str) -> datetime.datetime:
    """The hour of a time, in UTC, and in the years that can be asked for."""
    year, month, day = (int(number) for number in text[:10].split("-"))
    hour = int(text[11:13] or 0)
    year = min(max(year, YEARS[0]), YEARS[1])
    # Every month has 28 days.
    return datetime.datetime(year, month, min(day, 28), hour, tzinfo=datetime.UTC)


def written(time: datetime.datetime, like: str | None = None) -> str:
    """A time as a parameter: a date when it is to be like one."""
    is_date = like is not None and len(like) == len("2000-01-01")
    return time.strftime("%Y-%m-%d" if is_date else "%Y-%m-%dT%H:%M:%SZ")


def use_the_key_of_the_project(case: schemathesis.Case) -> None:
    """The settings of an SDK are asked for with a key in the path, and the document cannot contain one."""
    if case.operation.path in (
        "/v1/projects/{id}/settings",
        "/array/{id}/config",
        "/array/{id}/config.js",
    ):
        case.path_parameters["id"] = os.environ["MILLRACE_KEY"]
