// The TypeScript MCP SDK's client: lists tools and calls one.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, name, argumentsText] = process.argv.slice(2);
const client = new Client({ name: "clients-test", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const tools = (await client.listTools()).tools.map((tool) => tool.name);
let outcome;
try {
  outcome = { result: await client.callTool({ name, arguments: JSON.parse(argumentsText) }) };
} catch (error) {
  outcome = { error: { code: error.code, message: error.message, data: error.data } };
}
console.log(JSON.stringify({ tools, ...outcome }));
await client.close();
