// Node's own fetch. The token, where it is asked for, is for a gateway URL: a client like any with a bearer token.
const [url, bearer] = process.argv.slice(2);
const headers = bearer === "--bearer" ? { authorization: `Bearer ${process.env.COATCHECK_TOKEN}` } : {};
const response = await fetch(url, { headers });
console.log(JSON.stringify({ status: response.status, body: await response.text() }));
