import { ask } from "../api";
import { useLoaded } from "../hooks";
import { Trouble } from "../trouble";
import { moment, plural } from "../words";

interface Load {
  running: number;
  max_running: number;
  failures_in_a_row: number;
  rests_until: string | null;
  outage: { reason: string; since: string; until: string | null; lost: boolean } | null;
}

export interface Health {
  status: string;
  version: string;
  deployments: Record<string, Record<string, Load>>;
  waiting: Record<string, number>;
  retirements: Record<string, { retires: string; retired: boolean }>;
  deliveries: Record<string, { waiting: number; wait: number | null; given_up: number }>;
}

export const readHealth = (signal: AbortSignal): Promise<Health> => ask<Health>("/health", { signal });

/** Which deployments are busy, closed or about to end, and how many videos wait for each model. */
export function Deployments() {
  const health = useLoaded(readHealth, [], 5);
  return (
    <section aria-labelledby="deployments">
      <header>
        <h2 id="deployments">Deployments</h2>
        {health.value && <span class={`state ${health.value.status}`}>{health.value.status}</span>}
      </header>
      {health.refusal && <Trouble refusal={health.refusal} again={health.again} />}
      {health.value &&
        Object.entries(health.value.deployments).map(([model, deployments]) => (
          <div class="model" key={model}>
            <h3>
              {model} <small>{plural(health.value?.waiting[model] ?? 0, "video")} waiting</small>
            </h3>
            <Retirement told={health.value?.retirements[model]} />
            <ul>
              {Object.entries(deployments).map(([name, load]) => (
                <Deployment key={name} name={name} load={load} />
              ))}
            </ul>
          </div>
        ))}
    </section>
  );
}

function Retirement({ told }: { told: { retires: string; retired: boolean } | undefined }) {
  return told ? <p class="hint">{told.retired ? `The vendor retired it on ${told.retires}.` : `It retires on ${told.retires}.`}</p> : null;
}

function Deployment({ name, load }: { name: string; load: Load }) {
  const now = Date.now();
  return (
    <li>
      <span class="name">{name}</span>
      <Slots load={load} />
      {load.rests_until && Date.parse(load.rests_until) > now && <span class="closing">rests until {moment(load.rests_until)}</span>}
      {load.outage && (
        <span class="closing">
          {load.outage.reason}, since {moment(load.outage.since)}
          {load.outage.lost && ": it is gone"}
          {load.outage.until && !load.outage.lost && `, tried again ${moment(load.outage.until)}`}
        </span>
      )}
      {!load.outage && load.failures_in_a_row > 0 && <span class="closing">{plural(load.failures_in_a_row, "failure")} in a row</span>}
    </li>
  );
}

const MOST_DRAWN = 40;

function Slots({ load }: { load: Load }) {
  const drawn = Math.min(load.max_running, MOST_DRAWN);
  return (
    <span class="slots">
      <svg width={drawn * 12} height="10" aria-hidden="true">
        {Array.from({ length: drawn }, (_, at) => (
          <rect key={at} class={at < load.running ? "" : "none"} x={at * 12} width="10" height="10" rx="2" />
        ))}
      </svg>
      {load.running} of {load.max_running} in use
    </span>
  );
}
