"""What routes take, as JSON Schema: of `Request` as it says itself, field by field."""

from typing import Any

from sumi.request import FIELDS, FILES, LONGEST, LONGEST_FILE, Field, Request

TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
JSON = "application/json"
NAMED = {"type": ["string", "null"], "maxLength": 200}


def of_request() -> dict[str, Any]:
    """The schema of `Request`."""
    default = Request()
    return {
        "title": "Request",
        "description": " ".join((Request.__doc__ or "").split("\n\n")[0].split()),
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {**_of(name, field), **_default(getattr(default, name))} for name, field in FIELDS.items()},
    }


def of_job() -> dict[str, Any]:
    """The schema of what POST /v1/jobs takes."""
    return {
        "title": "JobRequest",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "request": {"$ref": "#/components/schemas/Request"},
            "model": {**NAMED, "description": "one of GET /v1/models; null: the one that comes with sumi"},
            "priority": {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000, "default": 0, "description": "larger goes first"},
            "group": {
                "type": ["string", "null"],
                "minLength": 1,
                "maxLength": 64,
                "pattern": "^[ -~]+$",
                "description": "a name to find it by",
            },
            "shelf": {"type": "boolean", "default": True, "description": "its pictures lie in the gallery; others are kept for a day"},
            "see": {"type": "boolean", "default": False, "description": "keep the page that shows every step; count must be 1"},
        },
    }


def of_words() -> dict[str, Any]:
    """The schema of what POST /v1/words takes."""
    own = {name: {"$ref": f"#/components/schemas/Request/properties/{name}"} for name in ("emphasis", "steps")}
    return {
        "title": "WordsRequest",
        "type": "object",
        "additionalProperties": False,
        "required": ["prompt"],
        "properties": {"prompt": {"type": "string", "maxLength": 20_000}, "model": NAMED, **own},
    }


def takes(name: str) -> dict[str, Any]:
    """For a route whose body is JSON of a schema in /openapi.json."""
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {"requestBody": {"required": True, "content": content}}


def takes_bytes(*kinds: str) -> dict[str, Any]:
    """For a route whose body is a file."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}}}


def _of(name: str, field: Field) -> dict[str, Any]:
    said: dict[str, Any] = {"description": field.doc, "x-group": field.group}
    if field.choice:
        return said | {"type": "string", "enum": list(field.choice)}
    bounds = {} if field.range is None else {"minimum": field.range.low, "maximum": field.range.high}
    if field.type is tuple:
        kind: dict[str, Any] = {"type": "array", "items": {"type": "number", **bounds}}
        if field.count is not None:
            kind |= {"minItems": field.count.numbers, "maxItems": field.count.numbers}
    elif field.type is dict:
        kind = {"type": "object", "additionalProperties": {"type": "string"} if field.texts else {"type": "number", **bounds}}
    elif field.type is str:
        kind = {"type": "string", "maxLength": LONGEST_FILE if name in FILES else LONGEST}
    else:
        kind = {"type": TYPES[field.type], **bounds}
    if field.optional:
        kind["type"] = [kind["type"], "null"]
    if name in FILES:
        kind["pattern"] = "^(data:|upload:[0-9a-f]{64}$)"
        said["description"] = f"{field.doc.partition(':')[0]}: upload:ID, of POST /v1/uploads, or a data: URL"
    return said | kind


def _default(value: Any) -> dict[str, Any]:
    return {} if value is None else {"default": value}
