"""Python runs this before ministack, which exits when its parent exits, even by a kill.

It adds the parts of AWS IAM that niche's policies use and ministack lacks:

- the condition keys `s3:if-none-match` and `s3:ObjectCreationOperation`
  (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html)
- `s3:x-amz-storage-class` and `s3:x-amz-server-side-encryption-customer-algorithm`
  (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html)
- `kms:SigningAlgorithm` and `kms:MessageType`
  (https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html)
- `aws:PrincipalArn` is a session's role, not the session
  (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html)
- every request counts as a TLS request, like niche's requests to AWS; here they stay local
"""

import ctypes
import json
import os
import re
import signal

from ministack.core import iam_actions, iam_evaluator

_PR_SET_PDEATHSIG = 1
_parent = os.getppid()
# A killed test runner cannot stop ministack. Its functions read from it and exit with it.
ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != _parent:
    os._exit(1)

_request_tag_context = iam_actions.request_tag_context
_s3_service_context = iam_actions.s3_service_context
_pin_request_origin = iam_evaluator.pin_request_origin
_resolve_condition_key = iam_evaluator._resolve_condition_key


_put_headers = {
    "if-none-match": "s3:if-none-match",
    "x-amz-storage-class": "s3:x-amz-storage-class",
    "x-amz-server-side-encryption-customer-algorithm": "s3:x-amz-server-side-encryption-customer-algorithm",
}


def s3_service_context(iam_action, query_params=None, path="", headers=None):
    context = dict(_s3_service_context(iam_action, query_params, path, headers))
    if iam_action == "s3:PutObject":
        query = query_params or {}
        begins_or_is_part = "uploads" in query or "partNumber" in query
        context["s3:ObjectCreationOperation"] = "false" if begins_or_is_part else "true"
        for header, key in _put_headers.items():
            value = (headers or {}).get(header)
            if value:
                context[key] = value
    return context


def request_tag_context(service, iam_action, body, *more):
    context = dict(_request_tag_context(service, iam_action, body, *more))
    if iam_action == "kms:Sign":
        request = json.loads(body or b"{}")
        for field in ("SigningAlgorithm", "MessageType"):
            context[f"kms:{field}"] = request.get(field)
    return context


def pin_request_origin(source_ip, _secure_transport):
    _pin_request_origin(source_ip, True)


def resolve_condition_key(key, context):
    value = _resolve_condition_key(key, context)
    if key.lower() == "aws:principalarn" and isinstance(value, str):
        return re.sub(r":sts::(\d+):assumed-role/([^/]+)/.*", r":iam::\1:role/\2", value)
    return value


iam_actions.s3_service_context = s3_service_context
iam_actions.request_tag_context = request_tag_context
iam_evaluator.pin_request_origin = pin_request_origin
iam_evaluator._resolve_condition_key = resolve_condition_key
