// DynamicsWebApi, the client for Dataverse on npm: npm package dynamics-web-api
import { DynamicsWebApi } from "dynamics-web-api";
import { ConfidentialClientApplication } from "@azure/msal-node";
import { operation, equal, fails, holds } from "./operations.mjs";

const env = process.env;
const authority = `${env.D365_AUTHORITY}/${env.D365_TENANT_ID}`;
const app = new ConfidentialClientApplication({
  auth: {
    clientId: env.D365_CLIENT_ID, clientSecret: env.D365_CLIENT_SECRET, authority,
    knownAuthorities: [new URL(authority).host],
  },
});
const onTokenRefresh = async () =>
  (await app.acquireTokenByClientCredential({ scopes: [`${env.D365_URL}/.default`] })).accessToken;
const api = new DynamicsWebApi({ serverUrl: `${env.D365_URL}/`, dataApi: { version: "9.2" }, onTokenRefresh });

const contacts = "contacts", orders = "new_orders", accounts = "accounts";
const ann = {}, ids = {};
const label = "_new_contactid_value@OData.Community.Display.V1.FormattedValue";
const mine = "startswith(lastname,'Client')";
const read = (key, ...select) => api.retrieve({ collection: contacts, key, select });

await operation("create", async () => {
  ids.contact = await api.create({ collection: contacts, data: { lastname: "Client A", donotemail: true } });
  ids.other = await api.create({ collection: contacts, data: { lastname: "Client B" } });
  ids.account = await api.create({ collection: accounts, data: { name: "Company" } });
  holds(/^[0-9a-f-]{36}$/.test(ids.contact), "an id");
});
await operation("create and return the row", async () => {
  const data = { new_name: "One", "new_ContactId@odata.bind": `contacts(${ids.contact})` };
  const row = await api.create({ collection: orders, data, returnRepresentation: true });
  ids.order = row.new_orderid;
  equal([row.new_name, row._new_contactid_value], ["One", ids.contact]);
});
await operation("create and return some columns", async () => {
  const row = await api.create({
    collection: contacts, data: { lastname: "Client C" }, returnRepresentation: true, select: ["lastname"] });
  equal([row.lastname, row.firstname], ["Client C", undefined]);
});
await operation("create and return an expanded row", async () => {
  const row = await api.create({
    collection: orders, data: { new_name: "Two", "new_ContactId@odata.bind": `contacts(${ids.contact})` },
    returnRepresentation: true, expand: [{ property: "new_ContactId", select: ["lastname"] }] });
  equal(row.new_ContactId.lastname, "Client A");
});
await operation("create with a related row", async () => {
  const row = await api.create({
    collection: orders, data: { new_name: "Deep", new_ContactId: { lastname: "Client D" } }, returnRepresentation: true });
  holds(row._new_contactid_value, "the contact was created");
});
await operation("create with an unknown column is refused", () =>
  fails(() => api.create({ collection: contacts, data: { nonsense: 1 } }), /400/));
await operation("retrieve", async () => equal((await read(ids.contact, "lastname")).lastname, "Client A"));
await operation("retrieve all columns", async () => equal((await read(ids.contact)).contactid, ids.contact));
await operation("retrieve with annotations", async () => {
  const row = await api.retrieve({ collection: orders, key: ids.order, includeAnnotations: "*" });
  equal(row[label], "Client A");
});
await operation("retrieve with an expanded row", async () => {
  const expand = [{ property: "new_ContactId", select: ["lastname"] }];
  const row = await api.retrieve({ collection: orders, key: ids.order, select: ["new_name"], expand });
  equal(row.new_ContactId.lastname, "Client A");
});
await operation("retrieve a row unless it is unchanged", async () => {
  const row = await read(ids.contact, "lastname");
  const again = await api.retrieve({
    collection: contacts, key: ids.contact, select: ["lastname"], ifnonematch: row["@odata.etag"] });
  equal(again ?? null, null);
});
await operation("retrieve a related row", async () => {
  const row = await api.retrieve({
    collection: orders, key: ids.order, navigationProperty: "new_ContactId", select: ["lastname"] });
  equal(row.lastname, "Client A");
});
await operation("retrieve a reference", async () => {
  const row = await api.retrieve({ collection: orders, key: ids.order, navigationProperty: "new_ContactId", select: ["/$ref"] });
  holds(JSON.stringify(row).includes(ids.contact), "the reference names the contact");
});
await operation("retrieve an unknown row is refused", () =>
  fails(() => read("11111111-1111-1111-1111-111111111111"), /404/));
await operation("retrieve by an alternate key", async () => {
  await api.update({ collection: contacts, key: ids.contact, data: { externaluseridentifier: "ext 1" } });
  equal((await read("externaluseridentifier='ext 1'", "lastname")).lastname, "Client A");
});
await operation("update", async () => {
  await api.update({ collection: contacts, key: ids.contact, data: { firstname: "Ann" } });
  equal((await read(ids.contact, "firstname")).firstname, "Ann");
});
await operation("update by an alternate key", async () => {
  await api.update({ collection: contacts, key: "externaluseridentifier='ext 1'", data: { jobtitle: "Lead" } });
  equal((await read(ids.contact, "jobtitle")).jobtitle, "Lead");
});
await operation("upsert by an alternate key", async () => {
  await api.upsert({ collection: contacts, key: "externaluseridentifier='ext 2'", data: { lastname: "Client X" } });
  equal((await read("externaluseridentifier='ext 2'", "lastname")).lastname, "Client X");
});
await operation("update empties a lookup", async () => {
  const order = await api.create({
    collection: orders, data: { new_name: "Loose", "new_ContactId@odata.bind": `contacts(${ids.other})` } });
  await api.update({ collection: orders, key: order, data: { "new_ContactId@odata.bind": null } });
  equal((await api.retrieve({ collection: orders, key: order }))._new_contactid_value, null);
});
await operation("update and return the row", async () => {
  const row = await api.update({
    collection: contacts, key: ids.contact, data: { firstname: "Anna" }, returnRepresentation: true, select: ["firstname"] });
  equal(row.firstname, "Anna");
});
await operation("update a changed row is refused", async () => {
  const stale = 'W/"1"';
  equal(await api.update({ collection: contacts, key: ids.contact, data: { firstname: "X" }, ifmatch: stale }), false);
});
await operation("updateSingleProperty", async () => {
  await api.updateSingleProperty({ collection: contacts, key: ids.contact, fieldValuePair: { firstname: "Ann" } });
  equal((await read(ids.contact, "firstname")).firstname, "Ann");
});
await operation("deleteRecord of one column", async () => {
  await api.deleteRecord({ collection: contacts, key: ids.contact, property: "firstname" });
  equal((await read(ids.contact, "firstname")).firstname, null);
});
await operation("upsert creates", async () => {
  ids.upsert = "22222222-2222-2222-2222-222222222222";
  await api.upsert({ collection: contacts, key: ids.upsert, data: { lastname: "Client U" } });
  equal((await read(ids.upsert, "lastname")).lastname, "Client U");
});
await operation("upsert updates", async () => {
  await api.upsert({ collection: contacts, key: ids.upsert, data: { firstname: "Uma" } });
  equal((await read(ids.upsert, "firstname")).firstname, "Uma");
});
await operation("upsert creates only", async () =>
  equal(await api.upsert({ collection: contacts, key: ids.upsert, data: { firstname: "No" }, ifnonematch: "*" }), null));
await operation("upsert updates only", async () =>
  equal(await api.upsert({
    collection: contacts, key: "33333333-3333-3333-3333-333333333333", data: { firstname: "No" }, ifmatch: "*" }), null));

await operation("retrieveMultiple with a filter", async () => {
  const { value } = await api.retrieveMultiple({ collection: contacts, select: ["lastname"], filter: "lastname eq 'Client B'" });
  equal(value.map((row) => row.contactid), [ids.other]);
});
await operation("retrieveMultiple in an order", async () => {
  const { value } = await api.retrieveMultiple({ collection: contacts, select: ["lastname"], filter: mine, orderBy: ["lastname desc"] });
  const names = value.map((row) => row.lastname);
  equal(names, [...names].sort().reverse());
});
await operation("retrieveMultiple with top", async () =>
  equal((await api.retrieveMultiple({ collection: contacts, select: ["lastname"], top: 3 })).value.length, 3));
await operation("retrieveMultiple with a count", async () =>
  holds((await api.retrieveMultiple({ collection: contacts, select: ["lastname"], count: true })).oDataCount > 50));
await operation("retrieveMultiple with an expanded row", async () => {
  const { value } = await api.retrieveMultiple({
    collection: orders, filter: `new_orderid eq ${ids.order}`, expand: [{ property: "new_ContactId", select: ["lastname"] }] });
  equal(value[0].new_ContactId.lastname, "Client A");
});
await operation("retrieveMultiple in pages", async () => {
  const page = await api.retrieveMultiple({ collection: contacts, select: ["lastname"], maxPageSize: 10 });
  equal(page.value.length, 10);
  const next = await api.retrieveMultiple({ collection: contacts }, page.oDataNextLink);
  holds(next.value[0].contactid !== page.value[0].contactid, "another page");
});
await operation("retrieveMultiple of changes", async () => {
  const first = await api.retrieveMultiple({ collection: contacts, select: ["lastname"], trackChanges: true });
  await api.update({ collection: contacts, key: ids.other, data: { firstname: "Bert" } });
  const changes = await api.retrieveMultiple({ collection: contacts }, first.oDataDeltaLink ?? first["@odata.deltaLink"]);
  equal(changes.value.map((row) => row.contactid), [ids.other]);
});
await operation("retrieveMultiple in the order of a lookup", async () => {
  const { value } = await api.retrieveMultiple({
    collection: orders, select: ["_new_contactid_value"], includeAnnotations: "*", orderBy: ["_new_contactid_value"],
    filter: "_new_contactid_value ne null" });
  const names = value.map((row) => row[label].toLowerCase());
  equal(names, [...names].sort());
});
await operation("retrieveAll", async () => holds((await api.retrieveAll({ collection: contacts, select: ["lastname"] })).value.length > 50));
await operation("count", async () => holds((await api.count({ collection: contacts })) > 50));
await operation("count with a filter", async () => equal(await api.count({ collection: contacts, filter: "lastname eq 'Client B'" }), 1));
await operation("countAll", async () => holds((await api.countAll({ collection: contacts, filter: mine })) >= 4));

const fetchXml = `<fetch><entity name="contact"><attribute name="lastname"/><filter>
  <condition attribute="lastname" operator="eq" value="Client B"/></filter></entity></fetch>`;
await operation("fetch", async () =>
  equal((await api.fetch({ collection: contacts, fetchXml })).value.map((row) => row.contactid), [ids.other]));

const inList = (name) => `Microsoft.Dynamics.CRM.In(PropertyName='${name}',PropertyValues=['${ids.contact}','${ids.other}'])`;
await operation("a filter by In", async () =>
  equal((await api.retrieveMultiple({ collection: contacts, select: ["lastname"], filter: inList("contactid") })).value.length, 2));
await operation("a filter by In with aliases", async () => {
  const { value } = await api.retrieveMultiple({
    collection: contacts, select: ["lastname"],
    filter: "Microsoft.Dynamics.CRM.In(PropertyName=@p1,PropertyValues=@p2)",
    queryParams: ["@p1='lastname'", "@p2=['Client A','Client B']"] });
  equal(value.length, 2);
});
await operation("a filter by the owner", async () => {
  const filter = "Microsoft.Dynamics.CRM.EqualUserId(PropertyName='ownerid')";
  holds((await api.retrieveMultiple({ collection: contacts, select: ["lastname"], filter })).value.length > 0);
});
await operation("a filter by a related column", async () => {
  const { value } = await api.retrieveMultiple({ collection: orders, select: ["new_name"], filter: "new_ContactId/lastname eq 'Client A'" });
  holds(value.length >= 1, "an order");
});

await operation("associateSingleValued", async () => {
  await api.associateSingleValued({
    collection: contacts, primaryKey: ids.other, navigationProperty: "parentcustomerid_account",
    relatedCollection: accounts, relatedKey: ids.account });
  equal((await read(ids.other, "_parentcustomerid_value"))._parentcustomerid_value, ids.account);
});
await operation("disassociateSingleValued", async () => {
  await api.disassociateSingleValued({ collection: contacts, primaryKey: ids.other, navigationProperty: "parentcustomerid_account" });
  equal((await read(ids.other, "_parentcustomerid_value"))._parentcustomerid_value, null);
});
await operation("associate", async () => {
  await api.associate({
    collection: accounts, primaryKey: ids.account, relationshipName: "contact_customer_accounts",
    relatedCollection: contacts, relatedKey: ids.other });
  equal((await read(ids.other, "_parentcustomerid_value"))._parentcustomerid_value, ids.account);
});
await operation("retrieve a collection of related rows", async () => {
  await api.update({ collection: contacts, key: ids.other, data: { "parentcustomerid_account@odata.bind": `accounts(${ids.account})` } });
  const found = await api.retrieve({
    collection: accounts, key: ids.account, navigationProperty: "contact_customer_accounts", select: ["lastname"] });
  equal(found.value.map((row) => row.contactid), [ids.other]);
});
await operation("disassociate", async () => {
  await api.disassociate({
    collection: accounts, primaryKey: ids.account, relationshipName: "contact_customer_accounts", relatedKey: ids.other });
  equal((await read(ids.other, "_parentcustomerid_value"))._parentcustomerid_value, null);
});

await operation("a batch of reads", async () => {
  api.startBatch();
  read(ids.contact, "lastname");
  api.retrieveMultiple({ collection: contacts, select: ["lastname"], top: 2 });
  const [row, page] = await api.executeBatch();
  equal([row.lastname, page.value.length], ["Client A", 2]);
});
await operation("a batch of changes, all or none", async () => {
  api.startBatch();
  api.update({ collection: contacts, key: ids.contact, data: { firstname: "Batch" } });
  api.create({ collection: contacts, data: { nonsense: 1 } });
  await fails(() => api.executeBatch(), /400/);
  equal((await read(ids.contact, "firstname")).firstname, null);
});
await operation("a batch that refers to its own rows", async () => {
  api.startBatch();
  api.create({ collection: contacts, data: { lastname: "Client E" }, contentId: "1" });
  api.create({ collection: orders, data: { new_name: "Ref", "new_ContactId@odata.bind": "$1" } });
  const [contact, order] = await api.executeBatch();
  const row = await api.retrieve({ collection: orders, key: order, select: ["_new_contactid_value"] });
  equal(row._new_contactid_value, contact);
});
await operation("a batch that goes on after an error", async () => {
  api.startBatch();
  api.retrieve({ collection: contacts, key: "11111111-1111-1111-1111-111111111111", inChangeSet: false });
  api.retrieve({ collection: contacts, key: ids.contact, select: ["lastname"], inChangeSet: false });
  const answers = await api.executeBatch({ continueOnError: true });
  equal(answers[1].lastname, "Client A");
});

await operation("callFunction WhoAmI", async () => holds((await api.callFunction("WhoAmI")).UserId, "a user"));
await operation("callFunction RetrieveVersion", async () => holds((await api.callFunction("RetrieveVersion")).Version.startsWith("9.")));
await operation("callFunction RetrieveTotalRecordCount", async () => {
  const request = { name: "RetrieveTotalRecordCount", parameters: { EntityNames: ["contact"] } };
  holds((await api.callFunction(request)).EntityRecordCountCollection.Values[0] > 50);
});
await operation("callAction CreateMultiple", async () => {
  const row = { "@odata.type": "Microsoft.Dynamics.CRM.contact", lastname: "Client M" };
  const { Ids } = await api.callAction({ collection: contacts, actionName: "Microsoft.Dynamics.CRM.CreateMultiple", action: { Targets: [row, row] } });
  equal(Ids.length, 2);
});

await operation("retrieveEntities", async () => {
  const { value } = await api.retrieveEntities({ select: ["LogicalName"], filter: "LogicalName eq 'contact'" });
  equal(value.map((one) => one.LogicalName), ["contact"]);
  ann.entity = value[0].MetadataId;
});
await operation("retrieveEntity", async () => equal((await api.retrieveEntity({ key: ann.entity, select: ["EntitySetName"] })).EntitySetName, contacts));
await operation("retrieveEntity by its name", async () =>
  equal((await api.retrieveEntity({ key: "LogicalName='new_order'", select: ["PrimaryIdAttribute"] })).PrimaryIdAttribute, "new_orderid"));
await operation("retrieveEntity with further properties", async () => {
  const select = ["IsKnowledgeManagementEnabled", "CanCreateAttributes", "PrimaryImageAttribute", "HasActivities"];
  holds("HasActivities" in (await api.retrieveEntity({ key: ann.entity, select })));
});
await operation("retrieveAttributes", async () => {
  const { value } = await api.retrieveAttributes({ entityKey: ann.entity, select: ["LogicalName", "AttributeType"] });
  holds(value.some((one) => one.LogicalName === "lastname"), "lastname");
});
await operation("retrieveAttributes of a type", async () => {
  const { value } = await api.retrieveAttributes({
    entityKey: ann.entity, castType: "Microsoft.Dynamics.CRM.StringAttributeMetadata", select: ["LogicalName", "MaxLength"] });
  ann.lastname = value.find((one) => one.LogicalName === "lastname").MetadataId;
  equal(value.find((one) => one.LogicalName === "lastname").MaxLength, 50);
});
await operation("retrieveAttribute", async () => {
  const one = await api.retrieveAttribute({ entityKey: ann.entity, attributeKey: ann.lastname, select: ["LogicalName"] });
  equal(one.LogicalName, "lastname");
});
await operation("retrieveAttribute with its options", async () => {
  const one = await api.retrieveAttribute({
    entityKey: "LogicalName='contact'", attributeKey: "LogicalName='gendercode'",
    castType: "Microsoft.Dynamics.CRM.PicklistAttributeMetadata", expand: [{ property: "OptionSet", select: ["Options"] }] });
  equal(one.OptionSet.Options.length, 2);
});
await operation("retrieveRelationships", async () =>
  holds((await api.retrieveRelationships({ castType: "Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata" })).value.length > 3));
await operation("retrieveRelationship", async () => {
  const { value } = await api.retrieveRelationships();
  equal((await api.retrieveRelationship({ key: value[0].MetadataId })).SchemaName, value[0].SchemaName);
});
await operation("retrieveGlobalOptionSets", async () => holds(Array.isArray((await api.retrieveGlobalOptionSets()).value)));
await operation("retrieveCsdlMetadata", async () => holds((await api.retrieveCsdlMetadata()).includes("<edmx:Edmx"), "a CSDL document"));

await operation("deleteRecord of a changed row is refused", async () =>
  equal(await api.deleteRecord({ collection: contacts, key: ids.other, ifmatch: 'W/"1"' }), false));
await operation("deleteRecord", async () => {
  await api.deleteRecord({ collection: contacts, key: ids.upsert });
  await fails(() => read(ids.upsert), /404/);
});
await operation("an impersonated request is carried out", async () => {
  const { UserId } = await api.callFunction("WhoAmI");
  holds(await api.retrieve({ collection: contacts, key: ids.contact, select: ["lastname"], impersonate: UserId }));
});
