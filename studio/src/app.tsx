import { useEffect, useState } from "preact/hooks";

import { ask, isRefusal, KEY_REFUSED, type Refusal, session } from "./api";
import { arrived } from "./entra";
import { useKept, useLoaded, useTimer } from "./hooks";
import { lazy } from "./lazy";
import { SignIn } from "./sign_in";
import { Trouble } from "./trouble";
import type { Caller, Key, Model, Page } from "./wire";
import { Workshop } from "./workshop";

const Operate = lazy(() => import("./operate/operate").then((module) => module.Operate));

/** The page: signing in, then making and looking, and for the operator a second side. */
export function App() {
  const [signedIn, setSignedIn] = useState(session.key !== null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const leave = (why: Refusal | null) => {
    session.end();
    setSignedIn(false);
    setRefusal(why);
  };
  useEffect(() => {
    const refused = (event: Event) => leave((event as CustomEvent<Refusal>).detail);
    addEventListener(KEY_REFUSED, refused);
    arrived().then(
      (token) => token && enter(token),
      (failed: Error) => setFailure(failed.message),
    );
    return () => removeEventListener(KEY_REFUSED, refused);
  }, []);
  const enter = (key: string) => {
    session.begin(key);
    setRefusal(null);
    setFailure(null);
    setSignedIn(true);
  };
  return signedIn ? <Inside leave={() => leave(null)} /> : <SignIn {...{ enter, refusal, failure }} />;
}

const BUDGET_SECONDS = 15; // until what is left of the budget is asked for again

function Inside({ leave }: { leave: () => void }) {
  const [side, setSide] = useKept<"videos" | "operate">("side", "videos");
  const caller = useLoaded(who, []);
  const models = useLoaded((signal) => ask<Page<Model>>("/v1/videos/models", { signal }), []);
  const operator = caller.value?.operator ?? false;
  const refusal = caller.refusal ?? models.refusal;
  const spent = () => {
    if (!operator) caller.again(); // whose key has no budget
  };
  useTimer(spent, BUDGET_SECONDS * 1000);
  return (
    <>
      <header class="top">
        <h1>Studio</h1>
        {operator && (
          <nav aria-label="Sides">
            <Side name="videos" label="Videos" current={side} choose={setSide} />
            <Side name="operate" label="Operate" current={side} choose={setSide} />
          </nav>
        )}
        <span class="who">{caller.value && nameOf(caller.value)}</span>
        <button type="button" class="quiet" onClick={leave}>
          Sign out
        </button>
      </header>
      <main>
        {refusal && <Trouble refusal={refusal} again={caller.value ? models.again : caller.again} />}
        {caller.value && models.value && side === "operate" && operator && (
          <Operate models={models.value.data} />
        )}
        {caller.value && models.value && !(side === "operate" && operator) && (
          <Workshop caller={caller.value} models={models.value.data} spent={spent} />
        )}
      </main>
    </>
  );
}

interface SideProps {
  name: "videos" | "operate";
  label: string;
  current: string;
  choose: (name: "videos" | "operate") => void;
}

function Side({ name, label, current, choose }: SideProps) {
  return (
    <button type="button" aria-current={name === current ? "page" : undefined} onClick={() => choose(name)}>
      {label}
    </button>
  );
}

function nameOf(caller: Caller): string {
  return caller.operator ? "Operator" : (caller.key.key_alias ?? caller.key.key_name ?? caller.key.key_id);
}

/** Who has signed in. The operator's key is on no list: the gateway asks which key is meant. */
async function who(signal: AbortSignal): Promise<Caller> {
  try {
    return { operator: false, key: (await ask<{ info: Key }>("/key/info", { signal })).info };
  } catch (failure) {
    if (isRefusal(failure) && failure.code === "missing_required_parameter") return { operator: true, key: null };
    throw failure;
  }
}
