// What both TypeScript clients do: the steps of a script, one after another, each with what came of it.
// The same as script.py, which says more.
import { readFileSync } from "node:fs";

const STEP_MILLISECONDS = 40_000;
const token = process.env.EVERYTHING_TOKEN;

/** The header that a client at a gateway URL shows who it is with. */
export const headers = token ? { Authorization: `Bearer ${token}` } : {};
export const notifications = [];
export const asked = [];
const answers = [];
export const roots = ["file:///workspace/orders"];

/** Node's own fetch, which keeps how a POST was answered. */
export async function watchedFetch(url, options) {
  const response = await fetch(url, options);
  if (options?.method !== "POST" || response.status === 202) return response;
  const type = response.headers.get("content-type") ?? "";
  const answer = { status: response.status, type };
  if (type.startsWith("application/json")) {
    const body = await response.clone().json();
    answer["same id"] = body.id === JSON.parse(options.body).id;
  }
  answers.push(answer);
  return response;
}

/** What the client answers what it is asked. */
export const answering = {
  sample(params) {
    asked.push({ method: "sampling/createMessage", params });
    return { role: "assistant", content: { type: "text", text: "forty-two" }, model: "a-model" };
  },
  elicit(params) {
    asked.push({ method: "elicitation/create", params });
    return params.mode === "url" ? { action: "accept" } : { action: "accept", content: entered(params) };
  },
  listRoots() {
    asked.push({ method: "roots/list", params: null });
    return { roots: roots.map((uri) => ({ uri })) };
  },
};

/** What a human types into the form: the defaults, and something where there is none. */
function entered({ requestedSchema }) {
  const plain = { string: "ann", boolean: true, integer: 5, number: 5, array: [] };
  const fitting = { email: "ann@shop.example", uri: "https://shop.example/", date: "2000-01-31" };
  const value = (schema) =>
    schema.default ?? fitting[schema.format] ?? schema.oneOf?.[0].const ?? schema.enum?.[0] ?? plain[schema.type];
  return Object.fromEntries(Object.entries(requestedSchema.properties).map(([name, schema]) => [name, value(schema)]));
}

async function act(client, step, callTask, progress) {
  switch (step.do) {
    case "await":
      return null;
    case "ping":
      return client.ping();
    case "list tools":
      return client.listTools();
    case "list resources":
      return client.listResources();
    case "list templates":
      return client.listResourceTemplates();
    case "list prompts":
      return client.listPrompts();
    case "set level":
      return client.setLoggingLevel(step.level);
    case "task":
      if (callTask) return callTask(step.name, step.arguments);
    // falls through: a client without tasks calls it like any tool
    case "call": {
      const options = step.progress ? { onprogress: (one) => progress.push(one) } : {};
      if (step.patience) options.timeout = step.patience * 1000;
      return client.callTool({ name: step.name, arguments: step.arguments }, ...callTask ? [undefined, options] : [options]);
    }
    case "read":
      return client.readResource({ uri: step.uri });
    case "subscribe":
      return client.subscribeResource({ uri: step.uri });
    case "unsubscribe":
      return client.unsubscribeResource({ uri: step.uri });
    case "prompt":
      return client.getPrompt({ name: step.name, arguments: step.arguments });
    case "complete": {
      const ref = step.prompt ? { type: "ref/prompt", name: step.prompt } : { type: "ref/resource", uri: step.template };
      const context = step.context ? { context: { arguments: step.context } } : {};
      return client.complete({ ref, argument: { name: step.argument, value: step.value }, ...context });
    }
    case "listen": {
      const since = notifications.length;
      const subscription = await client.listen({ toolsListChanged: true });
      await client.callTool({ name: step.call, arguments: {} });
      const heard = await awaited({ method: "notifications/tools/list_changed" }, since, AbortSignal.timeout(STEP_MILLISECONDS));
      await subscription.close();
      return { honored: subscription.honoredFilter, heard, closed: await subscription.closed };
    }
    case "roots changed":
      roots.push("file:///workspace/books");
      await client.sendRootsListChanged();
      return null;
  }
  throw new Error(step.do);
}

async function awaited(wanted, since, signal) {
  for (;;) {
    const found = notifications
      .slice(since)
      .find((one) => one.method === wanted.method && JSON.stringify(one).includes(wanted.containing ?? ""));
    if (found) return found;
    if (signal.aborted) throw new Error("nothing was heard");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function take(client, step, callTask, signal) {
  const since = step.do === "await" ? 0 : notifications.length;
  const progress = [];
  const outcome = {};
  try {
    outcome.result = await act(client, step, callTask, progress);
  } catch (error) {
    outcome.error = told(error);
  }
  if (progress.length) outcome.progress = progress;
  if (step.await && !outcome.error) outcome.heard = await awaited(step.await, since, signal);
  return outcome;
}

function told(error) {
  const { code, data, status } = error;
  return { kind: error.constructor.name, code, status, message: error.message, data };
}

/** Connects with `make()`, takes the steps of the command line's script, and prints what came of each. */
export async function run(make) {
  const [url, steps, mode] = process.argv.slice(2);
  let out;
  try {
    const { client, callTask, version } = await make(new URL(url), mode);
    const done = [];
    for (const step of JSON.parse(readFileSync(steps, "utf8"))) {
      const before = answers.length;
      const end = new AbortController();
      let timer;
      const late = new Promise((resolve) => (timer = setTimeout(() => resolve({ hangs: true }), STEP_MILLISECONDS)));
      const outcome = await Promise.race([take(client, step, callTask, end.signal), late]);
      clearTimeout(timer);
      end.abort();
      done.push({ step, ...outcome, answers: answers.slice(before) });
    }
    out = { version: version(), steps: done, asked };
    await client.close();
  } catch (error) {
    out = { failed: told(error), answers };
  }
  console.log(JSON.stringify(out));
  process.exit(0);
}
