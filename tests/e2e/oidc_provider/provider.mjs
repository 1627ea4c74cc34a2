// A certified OpenID provider on loopback: node provider.mjs PORT KEYS AUDIENCE
// Clients `rs` and `es` get JWT access tokens, signed with RS256 and ES256, by client credentials. KEYS is the file that its
// keys are kept in; POST /_rotate puts new keys before them, POST /_drop takes the old ones away.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const [port, file, audience] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

function newKeys() {
  const kinds = { RS256: ["rsa", { modulusLength: 2048 }], ES256: ["ec", { namedCurve: "P-256" }] };
  return Object.entries(kinds).map(([alg, [kind, options]]) => ({
    ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
    kid: randomUUID(),
    alg,
    use: "sig",
  }));
}

function client(name) {
  return {
    client_id: name,
    client_secret: `${name}-secret`,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  };
}

function handler(keys) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [client("rs"), client("es")],
    cookies: { keys: [randomUUID()] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource, { clientId }) => ({
          scope: "call",
          audience: resource,
          accessTokenTTL: 300,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: clientId === "rs" ? "RS256" : "ES256" } },
        }),
        defaultResource: () => audience,
      },
    },
    extraTokenClaims: (ctx, token) => ({ stage: `${token.clientId}-stage`, roles: ["ci"] }),
  });
  return provider.callback();
}

let keys = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : newKeys();

function take(changed) {
  keys = changed;
  writeFileSync(file, JSON.stringify(keys), { mode: 0o600 });
  return handler(keys);
}

let answer = take(keys);
createServer((request, response) => {
  if (request.method === "POST" && request.url === "/_rotate") {
    answer = take([...newKeys(), ...keys.slice(0, 2)]);
    response.end(keys.map(({ kid }) => kid).join("\n"));
  } else if (request.method === "POST" && request.url === "/_drop") {
    answer = take(keys.slice(0, 2));
    response.end(keys.map(({ kid }) => kid).join("\n"));
  } else {
    answer(request, response);
  }
}).listen(Number(port), "127.0.0.1");
