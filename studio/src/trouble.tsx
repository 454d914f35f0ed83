import { advice } from "./advice";
import type { Refusal } from "./api";

/** A refusal: what is wrong, what to do, and by what the operator finds it. */
export function Trouble({ refusal, again }: { refusal: Refusal; again?: () => void }) {
  return (
    <div class="trouble" role="alert">
      <p>
        <strong>{refusal.message}</strong>
      </p>
      <p>{advice(refusal.code)}</p>
      <p class="ids">
        <code>{refusal.code}</code>
        {refusal.requestId && <code>{refusal.requestId}</code>}
      </p>
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}
