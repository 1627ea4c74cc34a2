// The official TypeScript SDK 2.x: node typescript_2.mjs URL STEPS auto|legacy|sse
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { answering, headers, notifications, run, watchedFetch } from "./script.mjs";

const CAPABILITIES = { sampling: {}, elicitation: { form: {}, url: {} }, roots: { listChanged: true } };

await run(async (url, mode) => {
  const options = { capabilities: CAPABILITIES, versionNegotiation: { mode: mode === "sse" ? "legacy" : mode } };
  const client = new Client({ name: "everything", version: "1.0.0" }, options);
  client.setRequestHandler("sampling/createMessage", ({ params }) => answering.sample(params));
  client.setRequestHandler("elicitation/create", ({ params }) => answering.elicit(params));
  client.setRequestHandler("roots/list", () => answering.listRoots());
  client.fallbackNotificationHandler = async (notification) => notifications.push(notification);
  const Transport = mode === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  const transport = new Transport(url, { fetch: watchedFetch, requestInit: { headers } });
  await client.connect(transport);
  return { client, version: () => client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion };
});
