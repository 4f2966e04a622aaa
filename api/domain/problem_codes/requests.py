"""Codes of requests that are wrong by themselves, and of keys without the right."""

from collections.abc import Mapping
from typing import Final

_SHORTEN: Final = "Send a smaller body. The operator can raise the limit."
_FIX_FIELD: Final = "Change the fields that `errors` names."

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "malformed_json": ("The body is not valid JSON.", "Correct the JSON at the line and column that `detail` names."),
    "client_disconnected": ("The connection ended before the request did.", "Send the request again."),
    "missing_key": ("The request has no API key.", "Send the header `Authorization: Bearer <key>`."),
    "invalid_key": ("The API key is unknown, expired or revoked.", "Use another key, or ask an admin of the project for one."),
    "invalid_metrics_token": (
        "The metrics need the deployment's token, and the request has another one or none.",
        "Send `Authorization: Bearer <token>` with the value of `FLOW_NEXUS_METRICS_TOKEN`.",
    ),
    "missing_scope": ("The key lacks the scope of the operation.", "Use a key with the scope that `detail` names."),
    "scope_not_held": ("A key can only grant scopes that it has itself.", "Grant fewer scopes, or use a key with more."),
    "owner_key": (
        "A data owner's key gives access to the sandbox of one node and to nothing else.",
        "Use a key of the project.",
    ),
    "owner_only": ("The sandbox is open to its data owner's key only.", "Ask the data owner."),
    "outside_data": ("A data owner's key reaches files below `/data` only.", "Choose a path below `/data`."),
    "data_export_needed": (
        "A worker's sandbox holds private data, and the key may not read it.",
        "Use the data owner's key, or a key with the scope `data:export`.",
    ),
    "quota_exceeded": (
        "The request would exceed a quota of the project.",
        "End what is no longer needed, or ask the operator for a larger quota. `quota` has the numbers.",
    ),
    "not_found": ("There is no such resource in this project.", "Check the id, and that the key belongs to the same project."),
    "no_such_path": ("There is no resource at this path.", "Check the path against openapi.json."),
    "file_not_found": ("The sandbox has no file or folder at this path.", "Check the path. It is absolute in the sandbox."),
    "method_not_allowed": ("The path does not take this method.", "Use a method that the header `Allow` names."),
    "body_timeout": ("The body did not arrive in time.", "Send the request again over a faster connection."),
    "body_too_large": ("The JSON body is too large.", _SHORTEN),
    "upload_too_large": ("The file is too large.", "Split the file. The operator can raise the limit."),
    "unsupported_media_type": ("The body has a media type that is not accepted.", "Send it as `application/json`."),
    "invalid_request": ("A field or parameter is wrong.", _FIX_FIELD),
    "invalid_path": ("The path is not usable.", "Give an absolute path inside the sandbox, without `..`."),
    "invalid_cursor": ("The cursor is not one of this list.", "Use `next_cursor` of the page before, or leave it out."),
    "invalid_scope": ("A scope is unknown, or a data owner cannot have it.", _FIX_FIELD),
    "invalid_idempotency_key": ("The `Idempotency-Key` is malformed.", "Send 1 to 255 visible ASCII characters."),
    "invalid_form": ("The form does not have exactly one file.", "Send one file, or send the raw bytes as the body."),
    "form_body": ("`curl -d` has changed the file.", "Send it with `curl -T <file>` or `--data-binary @<file>`."),
    "partial_upload": ("An upload is a whole file.", "Send the whole file without `Content-Range`."),
    "unsupported_encoding": ("The body has an encoding that is not accepted.", "Send it without `Content-Encoding`."),
    "invalid_content_digest": ("`Content-Digest` cannot be read.", "Send `sha-256=:BASE64:`, or leave the header out."),
    "content_digest_mismatch": ("Other bytes arrived than `Content-Digest` says.", "Send the file again."),
    "file_exists": ("There is a file at the path already.", "Choose another path, or leave out `If-None-Match`."),
    "range_not_satisfiable": ("The file has no bytes in the range.", "Download it without `Range`. You may have all of it."),
    "webhook_url_refused": (
        "Webhooks may not have this address.",
        "Use a public https address, or ask the operator to list its network.",
    ),
    "unknown_quota": ("There is no such quota.", "Use one of the names that `detail` lists."),
    "federated_only": ("The option needs federated training.", "Leave the option out, or set `federated` to true."),
    "options_exclude_each_other": ("Two options cannot be used together.", "Drop one of them. `errors` says why."),
    "parameter_of_another_strategy": ("The strategy does not have this parameter.", "Leave it out, or change the strategy."),
    "optimizer_of_diloco": ("The strategy `diloco` trains with `adamw` only.", "Leave `optimizer` out."),
    "consensus_conflict": (
        "The option does not work with the consensus of the cluster.",
        "Change the option, or create a cluster with another consensus.",
    ),
    "rate_limited": ("The key has sent too many requests.", "Wait for as many seconds as `Retry-After` says."),
    "internal": ("The service has a mistake.", "Report it with the request's id, which is at the end of `instance`."),
}
