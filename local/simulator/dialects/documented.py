"""The documented errors of the Azure videos API, by their numbers (E2).

Where no body was ever captured (E8 to E10, E13, E15, E16, E18, E19) the text here is the part that
is known, in the envelope that is likely.
"""

from collections.abc import Mapping

from local.simulator.answers import Answer, apim_error, fastapi_error, openai_error

USER_ERROR = "video_generation_user_error"


def unknown_deployment(name: str) -> Answer:
    """E1."""
    return openai_error(
        404,
        f"The API deployment '{name}' for this resource does not exist. If you created the deployment within the last "
        "5 minutes, please wait a moment and try again.",
        kind=USER_ERROR,
    )


def missing_parameter(name: str) -> Answer:
    """E8."""
    return openai_error(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def blocked_input(reason: str) -> Answer:
    """E10."""
    return openai_error(
        400,
        f"Your request was blocked by our moderation system when checking inputs. Possible reasons: {reason}.",
        kind=USER_ERROR,
        code="moderation_blocked",
    )


def invalid_type(name: str, expected: str, got: str) -> Answer:
    """E7 and E16."""
    message = f"Invalid type for '{name}': expected {expected}, but got {got} instead."
    return openai_error(400, message, param=name, code="invalid_type")


def invalid_value(name: str, message: str) -> Answer:
    return openai_error(400, message, param=name, code="invalid_value")


TOO_MANY_RUNNING = openai_error(429, "Too many running tasks", kind=USER_ERROR)  # E2
ACCESS_DENIED = apim_error(  # E3, E17
    401,
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active "
    "subscription and use a correct regional API endpoint for your resource.",
)
RESOURCE_NOT_FOUND = apim_error(404, "Resource not found")  # E4
NOT_FOUND = fastapi_error(404, "Not Found")  # E5
INPAINT_MISMATCH = openai_error(400, "Inpaint image must match the requested width and height")  # E6
UPLOAD_TIMED_OUT = openai_error(400, "The upload timed out.", kind=USER_ERROR)  # E9
TIMEOUT = apim_error(408, "The operation was timeout.", "Timeout")  # E12
GONE = apim_error(410, "Gone")  # E13
TOO_MANY_HEADERS = Answer(431, content_type="text/plain")  # E15
RATE_LIMITED = apim_error(  # no captured body, and no Retry-After has been seen on this API
    429, "Requests to the videos operation have exceeded the call rate limit of this deployment.", "RateLimitReached"
)
BAD_KEY = openai_error(401, "Incorrect API key provided.", code="invalid_api_key")  # outside Azure

DOCUMENTED: Mapping[str, Answer] = {
    "E1": unknown_deployment("sora-2"),
    "E2": TOO_MANY_RUNNING,
    "E3": ACCESS_DENIED,
    "E4": RESOURCE_NOT_FOUND,
    "E5": NOT_FOUND,
    "E6": INPAINT_MISMATCH,
    "E7": invalid_type("input_reference", "a file", "a string"),
    "E8": missing_parameter("model"),
    "E9": UPLOAD_TIMED_OUT,
    "E10": blocked_input("people-in-user-uploads"),
    "E12": TIMEOUT,
    "E13": GONE,
    "E14": openai_error(400, "The response was filtered due to the content management policy.", code="content_filter"),
    "E15": TOO_MANY_HEADERS,
    "E16": invalid_type("seconds", "one of '4', '8', or '12'", "an integer"),
    "E17": ACCESS_DENIED,
    "E18": openai_error(500, "The server had an error while processing your request.", kind="server_error"),
    "E19": apim_error(403, "Access to this model is limited. Apply at aka.ms/oai/sora2access."),
}
