import { useEffect, useRef, useState } from "preact/hooks";

import { ask, type Refusal } from "./api";
import { useLoaded } from "./hooks";
import { asCurl, asPython, fields, type Order, post } from "./order";
import { Reference } from "./reference";
import { useSending } from "./sending";
import { once } from "./sure";
import { Trouble } from "./trouble";
import type { Caller, Model, Video } from "./wire";
import { dollars, moment, pixels, size as sizeInWords } from "./words";

interface Props {
  caller: Caller;
  models: Model[];
  order: Order;
  setOrder: (order: Order) => void;
  image: Blob | null;
  setImage: (image: Blob | null) => void;
  earlier: string[];
  made: (video: Video) => void;
}

/** What to make: its controls are what the chosen model can. */
export function Make({ caller, models, order: draft, setOrder, image, setImage, earlier, made }: Props) {
  const model = models.find((each) => each.id === draft.model) ?? models[0];
  const order = model ? fitted(draft, model) : draft;
  const [reference, setReference] = useState<Blob | null>(null);
  const { sending, refusal, changed, send } = useSending();
  const price = usePrice(order);
  const change = (changes: Partial<Order>) => {
    changed();
    setOrder({ ...order, ...changes });
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    if (image && !reference) return; // Ctrl+Enter comes here whatever the button says
    await send(async (attempt) => made(await post(order, image && reference, attempt)));
  };
  if (!model) return <p class="hint">This key may use no model.</p>;
  return (
    <section class="make" aria-labelledby="make">
      <h2 id="make">Make a video</h2>
      <form onSubmit={submit}>
        <label>
          Prompt
          <textarea
            rows={5}
            required
            maxLength={32_000}
            placeholder="A cat playing with a ball of yarn in a sunny garden"
            value={order.prompt}
            onInput={(event) => change({ prompt: event.currentTarget.value })}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit();
            }}
          />
        </label>
        {earlier.length > 0 && <Earlier prompts={earlier} choose={(prompt) => change({ prompt })} />}
        <label>
          Model
          <select value={model.id} onChange={(event) => change({ model: event.currentTarget.value })}>
            {models.map((each) => (
              <option key={each.id} value={each.id}>
                {each.id}
              </option>
            ))}
          </select>
        </label>
        {model.retires && (
          <p class="hint">
            The vendor {Date.parse(model.retires) < Date.now() ? "retired" : "retires"} this model on {model.retires}.
          </p>
        )}
        <Choice name="Length" values={model.seconds} chosen={order.seconds} choose={(seconds) => change({ seconds })} label={(each) => `${each} s`} />
        <Size model={model} chosen={order.size} choose={(size) => change({ size })} />
        <Reference
          size={order.size}
          source={image}
          setSource={(source) => {
            changed();
            setImage(source);
          }}
          setReference={setReference}
        />
        <Parameters model={model} given={order.parameters} change={(parameters) => change({ parameters })} />
        <Bill price={price.value} caller={caller} refusal={price.refusal} />
        <button type="submit" class="primary" onClick={once} disabled={sending || (image !== null && reference === null)}>
          {sending ? "Sending …" : price.value === null ? "Make it" : `Make it for ${dollars(price.value)}`}
        </button>
        {refusal && <Trouble refusal={refusal} />}
      </form>
      <Request order={order} reference={image !== null} />
    </section>
  );
}

/** The order with a length and a size that the model can make. */
function fitted(order: Order, model: Model): Order {
  const seconds = model.seconds.includes(order.seconds) ? order.seconds : (model.seconds[0] ?? "");
  const sized = model.sizes.includes(order.size) || (model.any_size && /^\d+x\d+$/.test(order.size));
  const known = Object.entries(order.parameters).filter(([name]) => name in model.parameters);
  return { ...order, model: model.id, seconds, size: sized ? order.size : (model.sizes[0] ?? ""), parameters: Object.fromEntries(known) };
}

/** What the gateway would charge, a moment after the last change. */
function usePrice(order: Order) {
  const { prompt: _, ...json } = fields(order);
  const told = JSON.stringify(json);
  return useLoaded(async (signal) => {
    await new Promise((resolve) => setTimeout(resolve, 120));
    if (signal.aborted || !json.model) return null;
    return (await ask<{ cost: number }>("/spend/calculate", { method: "POST", json, signal })).cost;
  }, [told]);
}

interface ChoiceProps {
  name: string;
  values: string[];
  chosen: string;
  choose: (value: string) => void;
  label: (value: string) => string;
}

const FEW = 8; // choices that are shown side by side

function Choice({ name, values, chosen, choose, label }: ChoiceProps) {
  if (values.length > FEW) {
    return (
      <label>
        {name}
        <select value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
          {values.map((each) => (
            <option key={each} value={each}>
              {label(each)}
            </option>
          ))}
        </select>
      </label>
    );
  }
  return (
    <fieldset class="choice">
      <legend>{name}</legend>
      {values.map((each) => (
        <label key={each}>
          <input type="radio" name={name} value={each} checked={each === chosen} onChange={() => choose(each)} />
          <span>{label(each)}</span>
        </label>
      ))}
    </fieldset>
  );
}

function Size({ model, chosen, choose }: { model: Model; chosen: string; choose: (size: string) => void }) {
  return (
    <fieldset class="choice sizes">
      <legend>Size</legend>
      {model.sizes.map((each) => (
        <label key={each}>
          <input type="radio" name="Size" value={each} checked={each === chosen} onChange={() => choose(each)} />
          <span>
            <Shape size={each} />
            {sizeInWords(each)}
          </span>
        </label>
      ))}
      {model.any_size && <OtherSize chosen={chosen} choose={choose} />}
    </fieldset>
  );
}

function OtherSize({ chosen, choose }: { chosen: string; choose: (size: string) => void }) {
  const [text, setText] = useState(chosen);
  useEffect(() => setText(chosen), [chosen]);
  return (
    <label class="other">
      Another
      <input
        value={text}
        pattern="\d+x\d+"
        onInput={(event) => setText(event.currentTarget.value)}
        onChange={() => /^\d+x\d+$/.test(text) && choose(text)}
      />
    </label>
  );
}

/** The outline of a size. */
function Shape({ size }: { size: string }) {
  const [width, height] = pixels(size);
  const longest = Math.max(width, height);
  const [across, down] = [(width / longest) * 20, (height / longest) * 20];
  return (
    <svg width="24" height="24" viewBox="0 0 24 24" aria-hidden="true">
      <rect x={12 - across / 2} y={12 - down / 2} width={across} height={down} rx="2" />
    </svg>
  );
}

function Earlier({ prompts, choose }: { prompts: string[]; choose: (prompt: string) => void }) {
  const details = useRef<HTMLDetailsElement>(null);
  return (
    <details class="earlier" ref={details}>
      <summary>Earlier prompts</summary>
      <ul>
        {prompts.map((each) => (
          <li key={each}>
            <button
              type="button"
              class="quiet"
              onClick={() => {
                choose(each);
                if (details.current) details.current.open = false;
              }}
            >
              {each}
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}

interface ParametersProps {
  model: Model;
  given: Record<string, string>;
  change: (given: Record<string, string>) => void;
}

/** What a server of one's own takes beside OpenAI's parameters. */
function Parameters({ model, given, change }: ParametersProps) {
  const names = Object.entries(model.parameters);
  if (!names.length) return null;
  return (
    <details class="more">
      <summary>More parameters</summary>
      {names.map(([name, meaning]) => (
        <label key={name}>
          {name} <span class="hint">{meaning}</span>
          <input value={given[name] ?? ""} onInput={(event) => change({ ...given, [name]: event.currentTarget.value })} />
        </label>
      ))}
    </details>
  );
}

/** What it costs and what is left, as the gateway says. */
function Bill({ price, caller, refusal }: { price: number | null; caller: Caller; refusal: Refusal | null }) {
  if (refusal) return <p class="bill">{refusal.message}</p>;
  const key = caller.key;
  if (!key || key.max_budget === null) return <p class="bill hint">This key has no budget to keep to.</p>;
  const left = Math.max(0, key.max_budget - key.spend - key.reserved);
  const short = price !== null && price > left;
  return (
    <div class={short ? "bill short" : "bill"}>
      <p>
        <strong>{dollars(left)}</strong> left of {dollars(key.max_budget)}
        {key.budget_reset_at && `, until ${moment(key.budget_reset_at)}`}.{short && " That is less than this video costs."}
      </p>
      <meter min={0} max={key.max_budget || 1} value={left} aria-label="Budget left" />
    </div>
  );
}

function Request({ order, reference }: { order: Order; reference: boolean }) {
  return (
    <details class="request">
      <summary>The same request, for programs</summary>
      <Code name="curl" text={asCurl(order, reference)} />
      <Code name="Python" text={asPython(order, reference)} />
    </details>
  );
}

function Code({ name, text }: { name: string; text: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => setCopied(false), [text]);
  return (
    <figure>
      <figcaption>
        {name}
        <button type="button" class="quiet" onClick={() => navigator.clipboard.writeText(text).then(() => setCopied(true))}>
          {copied ? "Copied" : `Copy ${name}`}
        </button>
      </figcaption>
      <pre tabIndex={0} aria-label={name}>{text}</pre>
    </figure>
  );
}
