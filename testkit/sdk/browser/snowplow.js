// Snowplow's tracker, with nothing but the address of Millrace and a key. #url=http://…&key=mk_…[&get][&batching][&header]
import * as snowplow from "@snowplow/browser-tracker";

const given = new URLSearchParams(location.hash.slice(1));
const key = given.get("key");
const inHeader = given.has("header");
snowplow.newTracker("shop", given.get("url"), {
  appId: inHeader ? "app-1" : key,
  customHeaders: inHeader ? { Authorization: `Bearer ${key}` } : undefined,
  eventMethod: given.has("get") ? "get" : "post",
  bufferSize: given.has("batching") ? 10 : 1,
  keepalive: given.has("batching"),
});
// After a failure the tracker sends again with its next event, or when it is flushed.
if (!given.has("batching")) setInterval(() => snowplow.flushBuffer({}), 300);
document.getElementById("state").textContent = "ready";
window.identify = (user) => snowplow.setUserId(user);
window.track = (name, data) => snowplow.trackSelfDescribingEvent({ event: { schema: `iglu:com.acme/${name}/jsonschema/1-0-0`, data } });
window.page = (title) => snowplow.trackPageView({ title });
window.act = (action, value) => snowplow.trackStructEvent({ category: "shop", action, value });
