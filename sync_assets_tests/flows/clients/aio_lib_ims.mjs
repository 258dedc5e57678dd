// Adobe's sign-in library: npm package @adobe/aio-lib-ims
import aioLibIms from "@adobe/aio-lib-ims";
import { operation, equal, fails, holds } from "./operations.mjs";

const env = process.env;
const ims = new aioLibIms.Ims("prod");
const scopes = env.CAMPAIGN_SCOPES.split(",");
let token;

const getToken = (secret) => ims.getAccessTokenByClientCredentials(env.CAMPAIGN_CLIENT_ID, secret, "ORG@AdobeOrg", scopes);

await operation("getAccessTokenByClientCredentials", async () => {
  const result = await getToken(env.CAMPAIGN_CLIENT_SECRET);
  token = result.access_token.token;
  equal(result.payload.token_type, "bearer");
  holds(result.access_token.expiry > 0, "the token carries its expiry");
});
await operation("getAccessTokenByClientCredentials with a wrong secret", () => fails(() => getToken("wrong"), /40[01]/));
await operation("get the profile", async () => {
  const profile = await ims.get("/ims/profile/v1", token);
  holds(typeof profile === "object" && profile !== null, "a profile");
});
await operation("get the profile with a token that is not valid", () =>
  fails(() => ims.get("/ims/profile/v1", "a.b.c"), /401/));
