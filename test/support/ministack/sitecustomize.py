"""Python runs this before ministack: what its IAM does not know of AWS yet and niche's policies use.

- the condition keys `s3:if-none-match` and `s3:ObjectCreationOperation`
  (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html)
- every request counts as one over TLS, as niche's to AWS are: here they stay on this machine
"""

from ministack.core import iam_actions, iam_evaluator

_s3_service_context = iam_actions.s3_service_context
_pin_request_origin = iam_evaluator.pin_request_origin


def s3_service_context(iam_action, query_params=None, path="", headers=None):
    context = dict(_s3_service_context(iam_action, query_params, path, headers))
    if iam_action == "s3:PutObject":
        query = query_params or {}
        begins_or_is_part = "uploads" in query or "partNumber" in query
        context["s3:ObjectCreationOperation"] = "false" if begins_or_is_part else "true"
        condition = (headers or {}).get("if-none-match")
        if condition:
            context["s3:if-none-match"] = condition
    return context


def pin_request_origin(source_ip, _secure_transport):
    _pin_request_origin(source_ip, True)


iam_actions.s3_service_context = s3_service_context
iam_evaluator.pin_request_origin = pin_request_origin
