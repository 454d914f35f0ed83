import "./operate.css";

import type { Model } from "../wire";
import { Deliveries } from "./deliveries";
import { Deployments } from "./deployments";
import { Journal } from "./journal";
import { Keys } from "./keys";
import { Spend } from "./spend";

/** The operator's side: who spends, what is busy, what was told to whom. */
export function Operate({ models }: { models: Model[] }) {
  return (
    <div class="operate">
      <Spend />
      <Keys models={models} />
      <Deployments />
      <Deliveries />
      <Journal />
    </div>
  );
}
