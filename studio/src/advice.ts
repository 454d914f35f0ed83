// What a person can do about an error, by its code; `docs/errors.md` has all codes.

export const ADVICE: Record<string, string> = {
  moderation_blocked: "Change the prompt or the image: the same one is refused again.",
  content_policy_violation: "Your operator's rules forbid this prompt or image. Say it in another way.",
  budget_exceeded: "Choose a shorter or cheaper video, or ask your operator for more budget.",
  seconds_limit_exceeded: "This key's seconds of video are used up. Ask your operator for more.",
  seconds_not_allowed: "Choose a shorter video.",
  rate_limit_exceeded: "Wait a minute, then send it again.",
  too_many_running: "Wait until one of your videos has ended, then send it again.",
  model_not_allowed: "Choose another model: this key may not use that one.",
  model_retired: "The vendor has retired the model. Choose another one.",
  model_not_found: "The model is no longer offered here. Choose another one.",
  invalid_reference: "Choose another image: JPEG, PNG or WebP.",
  request_too_large: "Choose a smaller image.",
  remix_not_supported: "Make a new video instead of a remix.",
  not_supported: "This model cannot do that. Make a new video, or choose another model.",
  source_gone: "The vendor keeps videos for a day only, and this one is too old to remix. Make a new video.",
  queue_timeout: "Nothing was free for too long. Try again, or ask your operator for more capacity.",
  upstream_auth_error: "Tell your operator: the vendor refuses the gateway's credentials.",
  upstream_misconfigured: "Tell your operator: the vendor does not know the configured address.",
  upstream_uncertain: "It may have been made at the vendor. Ask your operator before you make it again.",
  upstream_rejected: "The message has the vendor's own words. Change what it names.",
  cancelled: "It was cancelled before it began, and cost nothing.",
  invalid_api_key: "Sign in again, or with another key.",
  identity_not_mapped: "Ask your operator for an account for you, your group or your role.",
  sign_in_unavailable: "Microsoft Entra ID does not answer just now. Try again in a while, or sign in with a key.",
  key_blocked: "Ask your operator: this key is blocked.",
  key_expired: "Ask your operator for a new key.",
  unreachable: "Check your connection. It is tried again by itself.",
  internal_error: "Give your operator the request's id.",
};

export function advice(code: string | null): string {
  return ADVICE[code ?? ""] ?? "Try it again. If it fails again, give your operator the ids below.";
}
