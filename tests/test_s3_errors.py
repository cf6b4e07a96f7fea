"""What S3Sink makes of each error there is."""

import ssl

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from ingestd.core.errors import SinkForbidden, SinkUnavailable
from ingestd.sinks.s3_errors import classify


def refused(code: str, status: int, operation: str = "PutObject", message: str = "because") -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        operation,
    )


@pytest.mark.parametrize(
    "error",
    [
        refused("InternalError", 500),
        refused("SlowDown", 503),
        refused("ServiceUnavailable", 503),
        refused("503", 503, "HeadObject"),
        refused("504", 504),
        refused("RequestTimeout", 400),
        refused("TooManyRequests", 429),
        refused("ThrottlingException", 400),
        refused("KMS.ThrottlingException", 400),
        refused("ConditionalRequestConflict", 409),
        refused("OperationAborted", 409),
        refused("BadDigest", 400),
        refused("IncompleteBody", 400),
        refused("XAmzContentSHA256Mismatch", 400),
        refused("NoSuchKey", 404, "GetObject"),
        refused("404", 404, "GetObject"),
        refused("IDPCommunicationError", 400, "AssumeRoleWithWebIdentity"),
        boto.EndpointConnectionError(endpoint_url="http://s3"),
        boto.ConnectTimeoutError(endpoint_url="http://s3"),
        boto.ReadTimeoutError(endpoint_url="http://s3"),
        boto.ConnectionClosedError(endpoint_url="http://s3"),
        boto.ProxyConnectionError(proxy_url="http://proxy"),
        boto.HTTPClientError(error="anything"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        boto.FlexibleChecksumError(error_msg="differs"),
        ResponseParserError("no XML"),
        ConnectionResetError("reset"),
        TimeoutError(),
    ],
    ids=str,
)
def test_what_passes_by_itself_is_unavailable(error: Exception) -> None:
    mapped = classify(error, "write s3://bucket/key")
    assert isinstance(mapped, SinkUnavailable)
    assert mapped.code
    assert str(mapped).startswith("cannot write s3://bucket/key: ")


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (refused("AccessDenied", 403), "s3:PutObject"),
        (refused("403", 403, "HeadObject"), "s3:ListBucket"),
        (refused("ExpiredToken", 400), "credentials"),
        (refused("InvalidToken", 400), "credentials"),
        (refused("InvalidAccessKeyId", 403), "credentials"),
        (refused("SignatureDoesNotMatch", 403), "credentials"),
        (refused("RequestTimeTooSkewed", 403), "clock"),
        (refused("KMS.DisabledException", 400), "kms_key_id"),
        (refused("KMS.NotFoundException", 400), "kms_key_id"),
        (refused("NoSuchBucket", 404), "create the bucket"),
        (refused("PermanentRedirect", 301), "s3.region"),
        (refused("AuthorizationHeaderMalformed", 400), "s3.region"),
        (refused("NotImplemented", 501), "at-least-once"),
        (refused("XMinioStorageFull", 507), "full"),
        (refused("NeverHeardOfIt", 400), "look the code up"),
        (refused("AccessDenied", 403, "GetBucketNotificationConfiguration"), "s3:GetBucketNotification"),
        (refused("AccessDenied", 403, "PutBucketNotificationConfiguration"), "s3:PutBucketNotification"),
        (refused("InvalidArgument", 400, "PutBucketNotificationConfiguration"), "SNS topic"),
        (refused("ExpiredToken", 400, "PutBucketNotificationConfiguration"), "credentials"),
        (refused("AccessDenied", 403, "AssumeRoleWithWebIdentity"), "AssumeRoleWithWebIdentity was refused"),
        (boto.NoCredentialsError(), "credentials"),
        (boto.PartialCredentialsError(provider="env", cred_var="secret"), "credentials"),
        (boto.CredentialRetrievalError(provider="process", error_msg="secret"), "credentials"),
        (boto.TokenRetrievalError(provider="sso", error_msg="expired"), "credentials"),
        (boto.ProfileNotFound(profile="nobody"), "the profile in AWS' configuration"),
        (boto.ConfigParseError(path="config"), "AWS_* variable"),
        (boto.InvalidSTSRegionalEndpointsConfigError(sts_regional_endpoints_config="x"), "AWS_* variable"),
        (boto.InvalidRegionError(region_name="us east"), "AWS_REGION"),
        (boto.NoRegionError(), "AWS_REGION"),
        (boto.EndpointResolutionError(msg="no URI"), "s3.endpoint_url"),
        (boto.ParamValidationError(report="Invalid length for parameter WebIdentityToken"), "file with a token"),
        (boto.ParamValidationError(report="Invalid length for parameter RoleArn"), "AWS_ROLE_ARN"),
        (boto.ParamValidationError(report="Invalid type for parameter Body"), "report it"),
        (refused("401", 401), "s3.endpoint_url"),
        (refused("404", 404), "create the bucket"),
        (refused("405", 405), "s3.endpoint_url"),
        (refused("407", 407), "HTTPS_PROXY"),
        (refused("413", 413), "batch.bytes"),
        (boto.SSLError(endpoint_url="https://s3", error=ssl.SSLError("self-signed")), "AWS_CA_BUNDLE"),
        (RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), "credentials"),
        (FileNotFoundError(2, "No such file", "token"), "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ],
    ids=str,
)
def test_what_needs_a_person_is_forbidden_and_says_what_to_do(error: Exception, hint: str) -> None:
    mapped = classify(error, "write s3://bucket/key")
    assert isinstance(mapped, SinkForbidden)
    assert mapped.code
    assert hint in mapped.hint


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), TypeError("x"), RuntimeError("x")], ids=repr)
def test_a_defect_of_ours_stays_one(error: Exception) -> None:
    assert classify(error, "write") is None


def test_messages_are_one_short_line_without_credentials() -> None:
    long = classify(refused("AccessDenied", 403, message="first\nsecond " + "x" * 10_000), "write")
    assert "first second" in str(long)
    assert len(str(long)) < 600
    for error in (
        refused("InvalidAccessKeyId", 403, message="AKIDSECRET is not known"),
        refused("ExpiredToken", 400, message="AKIDSECRET has expired"),
        boto.CredentialRetrievalError(provider="process", error_msg="AKIDSECRET"),
    ):
        assert "AKIDSECRET" not in str(classify(error, "write"))
