import { useEffect, useState } from "preact/hooks";

import type { Refusal } from "./api";
import { leave, type Tenant, tenant } from "./entra";
import { Trouble } from "./trouble";

interface Props {
  enter: (key: string) => void;
  refusal: Refusal | null;
  failure: string | null;
}

/**
 * Asks for a key, or sends people to their tenant's page where the gateway takes its tokens. Either stays in this tab's own
 * storage, and goes nowhere but into the header of requests.
 */
export function SignIn({ enter, refusal, failure }: Props) {
  const [key, setKey] = useState("");
  const [known, setKnown] = useState<Tenant | null>(null);
  useEffect(() => {
    tenant().then(setKnown, () => undefined); // a key works all the same
  }, []);
  const submit = (event: Event) => {
    event.preventDefault();
    // Headers hold no other characters; a key that was pasted with a line's end is still that key.
    const plain = key.replace(/[^\x21-\x7e]/g, "");
    if (plain) enter(plain);
  };
  return (
    <main class="sign-in">
      <form onSubmit={submit}>
        <h1>Studio</h1>
        <p class="lead">Say what you want to see, and watch it being made.</p>
        {known && (
          <button type="button" class="primary" onClick={() => leave(known)}>
            Sign in with Microsoft
          </button>
        )}
        {known && <p class="hint">Or with a key:</p>}
        <label>
          Your key
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            placeholder="sk-…"
            required
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="primary">
          Sign in
        </button>
        <p class="hint">It is kept in this tab alone, until you close it or sign out.</p>
        {refusal && <Trouble refusal={refusal} />}
        {failure && (
          <p class="trouble" role="alert">
            {failure}
          </p>
        )}
      </form>
    </main>
  );
}
