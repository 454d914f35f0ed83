// Signing in with Microsoft Entra ID: the authorization code flow with PKCE (RFC 7636), whose steps
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow describes. No secret is needed.

/** Where and as what people sign in, as the gateway tells it; null where they have keys alone. */
export interface Tenant {
  authority: string;
  client_id: string;
  scope: string;
}

/** What the tenant has given: the token for requests, and what the next one is fetched with. */
interface Grant {
  access_token: string;
  refresh_token?: string;
  expires_in: number;
}

/** What the next token is fetched with, and from when on. */
interface Renewal {
  due: number;
  token: string;
  tenant: Tenant;
}

const STARTED = "entra-started"; // from leaving for the tenant's page until coming back
const RENEWAL = "entra-renewal";
const EARLY = 5 * 60_000; // milliseconds before its end in which a token is renewed

/** Why signing in did not work, in the tenant's own words. */
export class SignInFailed extends Error {}

export async function tenant(): Promise<Tenant | null> {
  const response = await fetch("/studio/sign_in.json");
  return response.ok ? ((await response.json()) as { entra: Tenant | null }).entra : null;
}

/** Goes to the tenant's page, which comes back to this one. */
export async function leave(to: Tenant): Promise<void> {
  const verifier = random();
  const state = random();
  sessionStorage.setItem(STARTED, JSON.stringify({ verifier, state, tenant: to }));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const asked = {
    client_id: to.client_id,
    response_type: "code",
    response_mode: "fragment", // which no server sees
    redirect_uri: back(),
    scope: to.scope,
    state,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: "S256",
  };
  location.assign(`${to.authority}/oauth2/v2.0/authorize?${new URLSearchParams(asked)}`);
}

/** The token that a visit to the tenant's page has led to; null where this page was opened in another way. Throws SignInFailed. */
export async function arrived(): Promise<string | null> {
  const told = new URLSearchParams(location.hash.slice(1));
  const started = sessionStorage.getItem(STARTED);
  if (!started || !(told.has("code") || told.has("error"))) return null;
  sessionStorage.removeItem(STARTED);
  history.replaceState(null, "", location.pathname); // the code works once, and is nobody else's
  const { verifier, state, tenant: from } = JSON.parse(started) as { verifier: string; state: string; tenant: Tenant };
  if (told.get("state") !== state) throw new SignInFailed("The answer is not to this tab's question.");
  const code = told.get("code");
  if (!code) throw new SignInFailed(told.get("error_description") ?? told.get("error") ?? "");
  const grant = await granted(from, { grant_type: "authorization_code", code, redirect_uri: back(), code_verifier: verifier });
  keep(from, grant);
  return grant.access_token;
}

/** The key or token to send: a token that is about to end is renewed first, once for all who ask at the same time. */
export async function fresh(current: string | null): Promise<string | null> {
  const kept = sessionStorage.getItem(RENEWAL);
  if (!kept) return current;
  if (Date.now() < (JSON.parse(kept) as Renewal).due) return current;
  renewing ??= renewed(kept).finally(() => {
    renewing = null;
  });
  return renewing.catch(() => current); // the gateway says what is wrong with it
}

let renewing: Promise<string> | null = null;

async function renewed(kept: string): Promise<string> {
  const { token, tenant: from } = JSON.parse(kept) as Renewal;
  const grant = await granted(from, { grant_type: "refresh_token", refresh_token: token, scope: from.scope });
  if (sessionStorage.getItem(RENEWAL) === kept) keep(from, grant); // unless somebody has signed out meanwhile
  return grant.access_token;
}

function keep(from: Tenant, { refresh_token: token, expires_in }: Grant): void {
  if (!token) return;
  const renewal: Renewal = { due: Date.now() + expires_in * 1000 - EARLY, token, tenant: from };
  sessionStorage.setItem(RENEWAL, JSON.stringify(renewal));
}

async function granted(from: Tenant, asked: Record<string, string>): Promise<Grant> {
  const body = new URLSearchParams({ client_id: from.client_id, ...asked });
  const response = await fetch(`${from.authority}/oauth2/v2.0/token`, { method: "POST", body }).catch(() => null);
  const told = (await response?.json().catch(() => null)) as (Grant & { error_description?: string }) | null;
  if (!response?.ok || !told) throw new SignInFailed(told?.error_description ?? "The tenant cannot be reached.");
  return told;
}

/** The address that the tenant sends people back to, which the app's registration has to list. */
const back = () => `${location.origin}/studio`;

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

const base64url = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
