// Microsoft's sign-in library: npm package @azure/msal-node
import { readFileSync } from "node:fs";
import { createHash, X509Certificate } from "node:crypto";
import { ConfidentialClientApplication } from "@azure/msal-node";
import { operation, fails, holds } from "./operations.mjs";

const env = process.env;
const authority = `${env.D365_AUTHORITY}/${env.D365_TENANT_ID}`;
const request = { scopes: [`${env.D365_URL}/.default`] };

function application(credential) {
  const knownAuthorities = [new URL(authority).host];
  return new ConfidentialClientApplication({ auth: { clientId: env.D365_CLIENT_ID, authority, knownAuthorities, ...credential } });
}

function certificate() {
  const pem = readFileSync(env.APP_CERTIFICATE, "utf8");
  const thumbprintSha256 = createHash("sha256").update(new X509Certificate(pem).raw).digest("hex");
  return { clientCertificate: { thumbprintSha256, privateKey: pem, x5c: pem } };
}

async function signsIn(app) {
  const token = await app.acquireTokenByClientCredential(request);
  const answer = await fetch(`${env.D365_URL}/api/data/v9.2/WhoAmI`, {
    headers: { Authorization: `Bearer ${token.accessToken}` },
  });
  holds(answer.ok, `WhoAmI is ${answer.status}`);
  return token;
}

await operation("sign in with a secret", () => signsIn(application({ clientSecret: env.D365_CLIENT_SECRET })));
await operation("sign in with a certificate", () => signsIn(application(certificate())));
await operation("take a token from the cache", async () => {
  const app = application({ clientSecret: env.D365_CLIENT_SECRET });
  await signsIn(app);
  holds((await signsIn(app)).fromCache, "the second token comes from the cache");
});
await operation("ask for a token beside the cache", async () => {
  const app = application({ clientSecret: env.D365_CLIENT_SECRET });
  await signsIn(app);
  holds(!(await app.acquireTokenByClientCredential({ ...request, skipCache: true })).fromCache, "a new token");
});
await operation("a wrong secret is refused", () =>
  fails(() => signsIn(application({ clientSecret: "wrong" })), /invalid_client.*AADSTS7000215/));
await operation("another tenant is refused", () =>
  fails(
    () => application({ clientSecret: env.D365_CLIENT_SECRET }).acquireTokenByClientCredential({
      ...request, authority: `${env.D365_AUTHORITY}/11111111-1111-1111-1111-111111111111` }),
    /AADSTS90002|endpoints_resolution_error|400|404/));
