// Adobe's Campaign Standard client: npm package @adobe/aio-lib-campaign-standard
import sdk from "@adobe/aio-lib-campaign-standard";
import { operation, equal, fails, holds } from "./operations.mjs";

const env = process.env;
const tenant = new URL(env.CAMPAIGN_URL).pathname.slice(1);
const token = await getToken();
const client = await sdk.init(tenant, env.CAMPAIGN_CLIENT_ID, token);
const content = async (answer) => (await answer).body.content;
const made = {};

async function getToken() {
  const answer = await fetch(`${env.CAMPAIGN_IMS_URL}/ims/token/v3`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "client_credentials",
      client_id: env.CAMPAIGN_CLIENT_ID,
      client_secret: env.CAMPAIGN_CLIENT_SECRET,
      scope: env.CAMPAIGN_SCOPES,
    }),
  });
  return (await answer.json()).access_token;
}

await operation("createProfile", async () => {
  for (const [key, name] of [["a", "Ada"], ["b", "Bert"], ["c", "Cleo"]]) {
    const { body } = await client.createProfile({ email: `${key}@example.com`, lastName: name, location: { city: "Rome" } });
    holds(body.PKey.startsWith("@"), "a PKey");
    made[key] = body.PKey;
  }
});
await operation("createProfile with an invalid gender", () =>
  fails(() => client.createProfile({ gender: "invalid" }), /500/));
await operation("createProfile with an invalid e-mail address", () =>
  fails(() => client.createProfile({ email: "nonsense" }), /500/));
await operation("getProfile", async () => equal((await client.getProfile(made.a)).body.lastName, "Ada"));
await operation("getProfile of an unknown PKey", () => fails(() => client.getProfile("@x"), /500|404/));
await operation("updateProfile", async () => {
  equal((await client.updateProfile(made.a, { firstName: "Augusta" })).body.PKey, made.a);
  equal((await client.getProfile(made.a)).body.firstName, "Augusta");
});
await operation("updateProfile of a part of the location", async () => {
  await client.updateProfile(made.a, { location: { zipCode: "00100" } });
  const { location } = (await client.getProfile(made.a)).body;
  equal([location.city, location.zipCode], ["Rome", "00100"]);
});
await operation("updateProfile with a read-only attribute", () =>
  fails(() => client.updateProfile(made.a, { age: 7 }), /500/));
await operation("getAllProfiles", async () => equal((await content(client.getAllProfiles())).length, 3));
await operation("getAllProfiles with a filter", async () => {
  const found = await content(client.getAllProfiles({ filters: ["byEmail"], email: "b@example.com" }));
  equal(found.map((one) => one.PKey), [made.b]);
});
await operation("getAllProfiles with the filter of an administrator", async () => {
  await client.updateProfile(made.c, { externalId: "c" });
  const found = await content(
    client.getAllProfiles({ filters: ["byExternalId"], hasCustomFilter: true, externalId_parameter: "c" }));
  equal(found.map((one) => one.PKey), [made.c]);
});
await operation("getAllProfiles with two filters", async () => {
  const both = { filters: ["byEmail", "byText"], email: "b@example.com", text: "Bert" };
  equal((await content(client.getAllProfiles(both))).length, 1);
});
await operation("getAllProfiles in an order", async () => {
  const ordered = { order: "email", descendingSort: true };
  equal((await content(client.getAllProfiles(ordered))).map((one) => one.PKey), [made.c, made.b, made.a]);
});
await operation("getAllProfiles in pages", async () => {
  const { body } = await client.getAllProfiles({ lineCount: 2 });
  equal(body.content.length, 2);
  const start = new URL(body.next.href).searchParams.get("_lineStart");
  equal((await content(client.getAllProfiles({ lineCount: 2, _lineStart: start }))).length, 1);
});
await operation("getDataFromRelativeUrl of a count", async () =>
  equal((await client.getDataFromRelativeUrl("profileAndServices/profile/_count")).body.count, 3));
await operation("getDataFromRelativeUrl of one attribute", async () =>
  holds((await content(client.getDataFromRelativeUrl("profileAndServices/profile/email"))).includes("a@example.com")));
await operation("getHistoryOfProfile", async () =>
  equal(typeof (await client.getHistoryOfProfile(made.a)).body, "object"));

await operation("createService", async () => {
  const { body } = await client.createService({ name: "SVC1", label: "News", messageType: "email" });
  made.service = body.PKey;
});
await operation("createService with a name that is taken", () => fails(() => client.createService({ name: "SVC1" }), /500/));
await operation("getService", async () => equal((await client.getService(made.service)).body.name, "SVC1"));
await operation("getAllServices", async () => equal((await content(client.getAllServices())).length, 1));
await operation("getAllServices with a filter", async () =>
  equal((await content(client.getAllServices({ filters: ["byText"], text: "News" }))).length, 1));

await operation("getMetadataForResource", async () => {
  const { body } = await client.getMetadataForResource("profile");
  equal([body.name, body.content.email.type], ["profile", "string"]);
});
await operation("getMetadataForResource names the PKey", async () =>
  equal((await client.getMetadataForResource("profile")).body.content.PKey.apiName, "PKey"));
await operation("getMetadataForResourceExt", async () =>
  equal(Array.isArray((await client.getMetadataForResourceExt("profile")).body.content), true));
await operation("getCustomResources", async () => holds("cusOrder" in (await client.getCustomResources()).body, "cusOrder"));
await operation("getDataFromRelativeUrl of the filters of a resource", async () =>
  holds("byEmail" in (await client.getDataFromRelativeUrl("profileAndServices/resourceType/profile/filters")).body));

await operation("createCustomResource", async () => {
  const order = { cusOrderId: "o1", cusName: "First", cusAmount: 12.5, cusContactLink: { PKey: made.a } };
  made.order = (await client.createCustomResource("cusOrder", order)).body.PKey;
});
await operation("createCustomResource with an unknown attribute", () =>
  fails(() => client.createCustomResource("cusOrder", { nonsense: 1 }), /500/));
await operation("updateCustomResource", async () =>
  equal((await client.updateCustomResource("cusOrder", made.order, { cusName: "Second" })).body.PKey, made.order));
await operation("getAllCustomResources", async () => {
  const [order] = await content(client.getAllCustomResources("cusOrder"));
  equal([order.cusName, order.cusContactLink.PKey], ["Second", made.a]);
});
await operation("getAllCustomResources with a filter", async () => {
  const by = { filters: ["byCusOrderId"], cusOrderId_parameter: "o1" };
  equal((await content(client.getAllCustomResources("cusOrder", by))).length, 1);
});
await operation("getDataFromRelativeUrl of a collection of a record", async () => {
  const path = `profileAndServicesExt/profile/${made.a}/cusOrderslink/`;
  equal((await content(client.getDataFromRelativeUrl(path))).length, 1);
});
await operation("getAllBasicCustomResources", async () =>
  equal(await content(client.getAllBasicCustomResources("cusStore")), []));
await operation("deleteCustomResource", async () => {
  await client.deleteCustomResource("cusOrder", made.order);
  equal((await content(client.getAllCustomResources("cusOrder"))).length, 0);
});
await operation("deleteCustomResource of a profile", async () => {
  await client.deleteCustomResource("profile", made.b);
  equal((await content(client.getAllProfiles())).length, 2);
});

await operation("getAllOrgUnits", async () => holds(Array.isArray(await content(client.getAllOrgUnits()))));
await operation("updateOrgUnit", async () => {
  const unit = (await client.createCustomResource("orgUnitBase", { name: "EMEA" })).body;
  made.unit = unit.PKey;
  equal((await client.updateOrgUnit(made.unit, { label: "Europe" })).body.PKey, made.unit);
});
await operation("updateProfileOrgUnit", async () => {
  equal((await client.updateProfileOrgUnit(made.a, made.unit)).body.PKey, made.a);
});
await operation("getProfileWithOrgUnit", async () =>
  equal((await client.getProfileWithOrgUnit(made.a)).body.orgUnit.PKey, made.unit));

await operation("getWorkflow", async () => holds((await client.getWorkflow("WKF12")).body.PKey.startsWith("@")));
await operation("controlWorkflow stop", () => client.controlWorkflow("WKF12", "stop"));
await operation("controlWorkflow start", () => client.controlWorkflow("WKF12", "start"));
await operation("controlWorkflow pause", () => client.controlWorkflow("WKF12", "pause"));
await operation("controlWorkflow resume", () => client.controlWorkflow("WKF12", "resume"));
await operation("triggerSignalActivity", async () => {
  const { activities } = (await client.getWorkflow("WKF13")).body;
  // This method alone uses no proxy, so its URL leads to the sandbox itself.
  const url = activities.activity.signal1.trigger.href.replace("https://mc.adobe.io", new URL(env.CAMPAIGN_URL).origin);
  equal(await client.triggerSignalActivity(url, { source: "API", parameters: {} }), {});
});
await operation("triggerSignalActivity again within ten minutes is refused", async () => {
  const url = (await client.getWorkflow("WKF13")).body.activities.activity.signal1.trigger.href;
  const answer = await client.triggerSignalActivity(url.replace("https://mc.adobe.io", new URL(env.CAMPAIGN_URL).origin), {});
  holds("payload" in answer, "a text");
});
await operation("controlWorkflow with an unknown command is refused", () =>
  fails(() => client.controlWorkflow("WKF12", "nonsense"), /nonsense|start, pause/));
await operation("getWorkflow of an unknown id", () => fails(() => client.getWorkflow("WKF99"), /404/));
await operation("an unknown resource is refused", () => fails(() => client.getAllCustomResources("cusNothing"), /404/));
await operation("a token that is not valid is refused", async () => {
  const other = await sdk.init(tenant, env.CAMPAIGN_CLIENT_ID, "x");
  await fails(() => other.getAllProfiles(), /401/);
});
