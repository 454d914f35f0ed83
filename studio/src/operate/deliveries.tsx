import { useState } from "preact/hooks";

import { ask, isRefusal, type Refusal } from "../api";
import { useLoaded } from "../hooks";
import { Trouble } from "../trouble";
import type { Page } from "../wire";
import { moment, plural } from "../words";
import { readHealth } from "./deployments";

interface Endpoint {
  id: string;
  name: string;
  url: string;
  disabled: string | null;
}

interface Attempt {
  id: string;
  event_type: string;
  video_id: string;
  tried_at: number;
  tries: number;
  outcome: string;
  status_code: number | null;
  reason: string | null;
}

interface Undelivered {
  id: string;
  type: string;
  video_id: string;
  destination: string;
  to: string | null;
  reason: string;
  tries: number;
  given_up_at: string;
}

/** What waits to be delivered, what was given up, and the last deliveries of the operator's own endpoints. */
export function Deliveries() {
  const health = useLoaded(readHealth, [], 15);
  const lost = useLoaded((signal) => ask<Page<Undelivered>>("/events/undelivered", { signal }), [], 30);
  const endpoints = useLoaded((signal) => ask<Page<Endpoint>>("/v1/webhook_endpoints", { query: { limit: 100 }, signal }), [], 30);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const replay = async () => {
    try {
      await ask("/events/replay", { method: "POST", json: {} });
      setRefusal(null);
    } catch (failure) {
      if (!isRefusal(failure)) throw failure;
      setRefusal(failure);
    }
    lost.again();
    health.again();
  };
  const trouble = refusal ?? lost.refusal ?? endpoints.refusal;
  return (
    <section aria-labelledby="deliveries">
      <header>
        <h2 id="deliveries">Deliveries</h2>
      </header>
      {trouble && <Trouble refusal={trouble} />}
      <ul class="plain">
        {Object.entries(health.value?.deliveries ?? {}).map(([name, each]) => (
          <li key={name}>
            <span class="name">{name}</span> {each.waiting} waiting, {each.given_up} given up
          </li>
        ))}
      </ul>
      {lost.value && lost.value.data.length > 0 && (
        <>
          <h3>Given up</h3>
          <ul class="plain">
            {lost.value.data.slice(0, 20).map((each) => (
              <li key={`${each.id}${each.destination}${each.to}`}>
                <span class="name">{each.destination}</span> {each.type} of <code>{each.video_id}</code>: {each.reason}, after{" "}
                {plural(each.tries, "try").replace("trys", "tries")}, {moment(each.given_up_at)}
              </li>
            ))}
          </ul>
          <button type="button" onClick={replay}>
            Deliver them again
          </button>
        </>
      )}
      {endpoints.value?.data.map((each) => (
        <Last key={each.id} endpoint={each} />
      ))}
    </section>
  );
}

function Last({ endpoint }: { endpoint: Endpoint }) {
  const last = useLoaded((signal) => ask<Page<Attempt>>(`/v1/webhook_endpoints/${endpoint.id}/deliveries`, { signal }), [endpoint.id], 15);
  return (
    <div class="model">
      <h3>
        {endpoint.name} <small>{endpoint.url}</small>
      </h3>
      {endpoint.disabled && <p class="closing">Disabled: {endpoint.disabled}</p>}
      {last.value && !last.value.data.length && <p class="hint">Nothing was sent there yet.</p>}
      <ul class="plain">
        {last.value?.data.map((each) => (
          <li key={each.id}>
            <span class={`name ${each.outcome}`}>{each.status_code ?? each.outcome}</span> {each.event_type}, {moment(each.tried_at)}
            {each.reason && `, ${each.reason}`}
          </li>
        ))}
      </ul>
    </div>
  );
}
