import { useState } from "preact/hooks";

import { ask, isRefusal, type Refusal } from "../api";
import { useLoaded } from "../hooks";
import { Act } from "../sure";
import { Trouble } from "../trouble";
import type { Page } from "../wire";
import { moment, plural } from "../words";
import { readHealth } from "./deployments";
import { nameOfKey } from "./spend";
import { Table } from "./table";

interface Attempt {
  id: string;
  event_type: string;
  video_id: string;
  tried_at: number;
  tries: number;
  outcome: string;
  status_code: number | null;
  reason: string | null;
  webhook_endpoint_id: string;
  key_id: string;
  key_alias: string | null;
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

/** What waits to be delivered, what was given up, and what webhook endpoints have answered. */
export function Deliveries() {
  const health = useLoaded(readHealth, [], 15);
  const lost = useLoaded((signal) => ask<Page<Undelivered>>("/events/undelivered", { signal }), [], 30);
  const last = useLoaded((signal) => ask<Page<Attempt>>("/events/deliveries", { signal }), []);
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
  const trouble = refusal ?? lost.refusal ?? last.refusal;
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
          <Act word="Deliver them again" act={replay} />
        </>
      )}
      <h3>Last to webhook endpoints</h3>
      {last.value && !last.value.data.length && <p class="hint">Nothing was sent to any yet.</p>}
      {last.value && last.value.data.length > 0 && <Last attempts={last.value.data} />}
      <button type="button" class="again" onClick={last.again}>
        Look again
      </button>
    </section>
  );
}

const MOST_SHOWN = 50;

function Last({ attempts }: { attempts: Attempt[] }) {
  return (
    <Table label="Last deliveries" heads={["When", "Key", "Endpoint", "Event", "Answer", "Tries"]}>
      {attempts.slice(0, MOST_SHOWN).map((each) => (
        <tr key={each.id + each.webhook_endpoint_id}>
          <td>{moment(each.tried_at)}</td>
          <td>{each.key_alias ?? nameOfKey(each.key_id)}</td>
          <td>
            <code>{each.webhook_endpoint_id}</code>
          </td>
          <td title={each.video_id}>{each.event_type}</td>
          <td class="said">
            {each.status_code ?? "none"} {each.reason && <small>{each.reason}</small>}
          </td>
          <td>
            {each.tries}, {each.outcome}
          </td>
        </tr>
      ))}
    </Table>
  );
}
