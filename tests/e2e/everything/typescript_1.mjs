// The official TypeScript SDK 1.x: node typescript_1.mjs URL STEPS [sse]
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { InMemoryTaskStore } from "@modelcontextprotocol/sdk/experimental/tasks";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { answering, headers, notifications, run, watchedFetch } from "./script.mjs";

const CAPABILITIES = {
  sampling: {},
  elicitation: { form: {}, url: {} },
  roots: { listChanged: true },
  tasks: { requests: { sampling: { createMessage: {} }, elicitation: { create: {} } } },
};

/** Answers at once, or as a task where the server asks for one. */
function later(answer) {
  return async ({ params }, extra) => {
    if (!params.task) return answer(params);
    const task = await extra.taskStore.createTask({ ttl: params.task.ttl });
    await extra.taskStore.storeTaskResult(task.taskId, "completed", answer(params));
    return { task };
  };
}

await run(async (url, mode) => {
  const taskStore = new InMemoryTaskStore();
  const client = new Client({ name: "everything", version: "1.0.0" }, { capabilities: CAPABILITIES, taskStore });
  client.setRequestHandler(CreateMessageRequestSchema, later(answering.sample));
  client.setRequestHandler(ElicitRequestSchema, later(answering.elicit));
  client.setRequestHandler(ListRootsRequestSchema, answering.listRoots);
  client.fallbackNotificationHandler = async (notification) => notifications.push(notification);
  const Transport = mode === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  const transport = new Transport(url, { fetch: watchedFetch, requestInit: { headers } });
  await client.connect(transport);
  const callTask = async (name, parameters) => {
    const seen = [];
    for await (const message of client.experimental.tasks.callToolStream({ name, arguments: parameters })) {
      if (message.type === "error") throw message.error;
      if (message.type !== "taskStatus" || seen.at(-1)?.status !== message.task.status)
        seen.push({ type: message.type, status: message.task?.status, result: message.result });
    }
    return seen;
  };
  return { client, callTask, version: () => transport.protocolVersion ?? mode };
});
