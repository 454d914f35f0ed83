import { useState } from "preact/hooks";

interface ActProps {
  word: string;
  act: () => Promise<unknown>;
}

interface SureProps extends ActProps {
  question: string;
  kind?: "danger" | "quiet";
}

/** For a button that sends a form: the second click of a double click would send it again. */
export function once(event: MouseEvent): void {
  if (event.detail > 1) event.preventDefault();
}

/** Whether `act` is under way, and what begins it. */
function useActing(act: () => Promise<unknown>): [boolean, () => Promise<unknown>] {
  const [acting, setActing] = useState(false);
  const begin = () => {
    setActing(true);
    return act().finally(() => setActing(false));
  };
  return [acting, begin];
}

/** A button that takes a double click for one, and is out of reach while what it does is under way. */
export function Act({ word, act }: ActProps) {
  const [acting, begin] = useActing(act);
  return (
    <button type="button" disabled={acting} onClick={(event) => (event.detail > 1 ? undefined : begin())}>
      {word}
    </button>
  );
}

/** A button that asks before it acts. The second click of a double click is no answer: nobody has read the question yet. */
export function Sure({ word, question, kind, act }: SureProps) {
  const [asking, setAsking] = useState(false);
  const [acting, begin] = useActing(act);
  const press = async (event: MouseEvent) => {
    if (event.detail > 1) return;
    setAsking(!asking);
    if (asking) await begin();
  };
  return (
    <button type="button" class={asking ? "danger" : kind} disabled={acting} onClick={press} onBlur={() => setAsking(false)}>
      {asking ? question : word}
    </button>
  );
}
