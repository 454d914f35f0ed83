import { useState } from "preact/hooks";

import { ask, isRefusal, type Refusal } from "../api";
import { useLoaded } from "../hooks";
import { Act, once, Sure } from "../sure";
import { Trouble } from "../trouble";
import type { Key, Model } from "../wire";
import { dollars, moment } from "../words";
import { Table } from "./table";

interface Keys {
  keys: Key[];
  total_count: number;
  total_pages: number;
}

const PAGE = 20;

/** Keys with their budgets: make, block, rotate. A secret is shown once, when it is made. */
export function Keys({ models }: { models: Model[] }) {
  const [page, setPage] = useState(1);
  const [secret, setSecret] = useState<{ name: string; secret: string } | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const keys = useLoaded((signal) => ask<Keys>("/key/list", { query: { return_full_object: true, size: PAGE, page }, signal }), [page], 15);
  const act = async (path: string, json: object): Promise<boolean> => {
    try {
      const told = await ask<Key & { key?: string }>(path, { method: "POST", json });
      setRefusal(null);
      if (path !== "/key/update" && told.key) setSecret({ name: told.key_alias ?? told.key_id, secret: told.key });
      return true;
    } catch (failure) {
      if (!isRefusal(failure)) throw failure;
      setRefusal(failure);
      return false;
    } finally {
      keys.again();
    }
  };
  const pages = keys.value?.total_pages ?? 1;
  return (
    <section aria-labelledby="keys">
      <header>
        <h2 id="keys">Keys</h2>
        {keys.value && <span class="hint">{keys.value.total_count} in all</span>}
      </header>
      <NewKey models={models} make={(json) => act("/key/generate", json)} />
      {secret && <Secret {...secret} put={() => setSecret(null)} />}
      {(refusal ?? keys.refusal) && <Trouble refusal={(refusal ?? keys.refusal) as Refusal} />}
      <Table label="Keys" heads={["Key", "Spent", "Reserved", "Budget", "Running", "State", <span class="unseen">Actions</span>]}>
        {keys.value?.keys.map((key) => (
          <Row key={key.key_id} value={key} act={act} />
        ))}
      </Table>
      {pages > 1 && (
        <p class="row">
          <button type="button" disabled={page === 1} onClick={() => setPage(page - 1)}>
            Newer keys
          </button>
          <span>
            Page {page} of {pages}
          </span>
          <button type="button" disabled={page === pages} onClick={() => setPage(page + 1)}>
            Older keys
          </button>
        </p>
      )}
    </section>
  );
}

interface RowProps {
  value: Key;
  act: (path: string, json: object) => Promise<boolean>;
}

function Row({ value, act }: RowProps) {
  const key = value.key_id;
  return (
    <tr>
      <th scope="row">
        {value.key_alias ?? key} <small>{value.key_name}</small>
      </th>
      <td>{dollars(value.spend)}</td>
      <td>{dollars(value.reserved)}</td>
      <td>
        <Budget value={value} change={(max_budget) => act("/key/update", { key, max_budget })} />
      </td>
      <td>{value.running}</td>
      <td>
        {value.blocked ? "blocked" : value.status}
        {value.expires && <small> until {moment(value.expires)}</small>}
      </td>
      <td class="actions">
        {value.blocked ? (
          <Act key="unblock" word="Unblock" act={() => act("/key/unblock", { key })} />
        ) : (
          <Act key="block" word="Block" act={() => act("/key/block", { key })} />
        )}
        <Sure word="Rotate" question="The old secret ends now. Rotate?" act={() => act("/key/regenerate", { key })} />
      </td>
    </tr>
  );
}

function Budget({ value, change }: { value: Key; change: (budget: number | null) => Promise<boolean> }) {
  const [text, setText] = useState<string | null>(null);
  const name = value.key_alias ?? value.key_id;
  if (text === null) {
    const shown = value.max_budget === null ? "none" : dollars(value.max_budget);
    return (
      <button type="button" class="quiet" aria-label={`Budget of ${name}: ${shown}. Change it`} onClick={() => setText(String(value.max_budget ?? ""))}>
        {shown}
        {value.budget_duration && ` per ${value.budget_duration}`}
      </button>
    );
  }
  const submit = async (event: Event) => {
    event.preventDefault();
    if (await change(text === "" ? null : Number(text))) setText(null);
  };
  return (
    <form class="row" onSubmit={submit}>
      <input type="number" min="0" step="any" aria-label={`Budget of ${name} in dollars`} value={text} onInput={(event) => setText(event.currentTarget.value)} />
      <button type="submit">Save</button>
    </form>
  );
}

function NewKey({ models, make }: { models: Model[]; make: (json: object) => Promise<boolean> }) {
  const [making, setMaking] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (making) return;
    const form = event.currentTarget as HTMLFormElement;
    const given = new FormData(form);
    const text = (name: string) => String(given.get(name) ?? "").trim();
    const json = {
      ...(text("alias") && { key_alias: text("alias") }),
      ...(text("budget") && { max_budget: Number(text("budget")) }),
      ...(text("window") && { budget_duration: text("window") }),
      ...(text("model") && { models: [text("model")] }),
    };
    setMaking(true);
    if (await make(json).finally(() => setMaking(false))) form.reset();
  };
  return (
    <form class="new-key" onSubmit={submit}>
      <label>
        Name
        <input name="alias" maxLength={128} autocomplete="off" />
      </label>
      <label>
        Budget in dollars
        <input name="budget" type="number" min="0" step="any" placeholder="none" />
      </label>
      <label>
        for each
        <select name="window">
          <option value="">all time</option>
          <option value="1d">day</option>
          <option value="7d">week</option>
          <option value="30d">30 days</option>
        </select>
      </label>
      <label>
        Model
        <select name="model">
          <option value="">any</option>
          {models.map((each) => (
            <option key={each.id}>{each.id}</option>
          ))}
        </select>
      </label>
      <button type="submit" class="primary" onClick={once} disabled={making}>
        Make a key
      </button>
    </form>
  );
}

function Secret({ name, secret, put }: { name: string; secret: string; put: () => void }) {
  return (
    <div class="secret" role="status">
      <p>
        The secret of <strong>{name}</strong>. It is shown this once:
      </p>
      <code>{secret}</code>
      <p class="row">
        <button type="button" onClick={() => navigator.clipboard.writeText(secret)}>
          Copy it
        </button>
        <button type="button" onClick={put}>
          I have it
        </button>
      </p>
    </div>
  );
}
