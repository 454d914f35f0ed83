import { useState } from "preact/hooks";

import type { Refusal } from "./api";
import { Trouble } from "./trouble";

interface Props {
  enter: (key: string) => void;
  refusal: Refusal | null;
}

/** Asks for a key. It stays in this tab's own storage, and goes nowhere but into the header of requests. */
export function SignIn({ enter, refusal }: Props) {
  const [key, setKey] = useState("");
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
      </form>
    </main>
  );
}
